"""Ask the micro model for a picture and then about it; files go to nextgpt-out/quickstart."""

from pathlib import Path

from nextgpt import Conversation, NextGPT

FOLDER = Path("nextgpt-out/quickstart")


def main() -> None:
    """Run two turns and save them."""
    model = NextGPT.from_pretrained()
    conversation = Conversation()
    for question in ("Draw a dog on a blue background.", "What is in the picture you made?"):
        conversation.user(question)
        reply = model.chat(conversation, seed=1)
        conversation.messages.append(reply)
        print(f"you> {question}\nnextgpt> {reply.text} {[str(part) for part in reply.media]}")
    print(f"saved {conversation.save(FOLDER)}")


if __name__ == "__main__":
    main()
