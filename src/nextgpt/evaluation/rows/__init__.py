"""The rows of the table, by what they measure; each module makes its rows from an Evaluation."""
