"""An app that goes on without its terminal: deployed to this machine's host, called from another program.

cloudfn deploy examples/deployed.py     # keeps it
python examples/deployed.py             # does so too, then calls it by name
cloudfn app schedule deployed           # when the nightly run comes next
"""

from __future__ import annotations

import cloudfn

app = cloudfn.App("deployed")


@app.function(retries=3)
def word_count(text: str) -> int:
    return len(text.split())


@app.function(schedule=cloudfn.Cron("0 2 * * *", timezone="Europe/Paris"))
def nightly() -> None:
    print("it is two in the morning in Paris")


def main() -> None:
    app.deploy()
    # From here on as in any other program: only names are needed.
    count = cloudfn.Function.from_name("deployed", "word_count")
    print("waited for:", count.remote("one two three"))
    call = count.spawn("kept on the disk before spawn returns")
    print("spawned:", call.object_id)
    again = cloudfn.FunctionCall.from_id(call.object_id)  # in any process, for seven days
    print("result:", again.get(timeout=60))


if __name__ == "__main__":
    main()
