"""A class: its parameters, what it does once when a worker starts and ends, and state between calls.

    cloudfn run examples/counter_class.py

Each set of parameters has workers of its own, so the two counters never mix. One worker each, so state can be seen.
"""

import cloudfn

app = cloudfn.App("counter-class")


@app.cls(max_containers=1)
class Counter:
    name: str = cloudfn.parameter()
    start: int = cloudfn.parameter(default=0)

    @cloudfn.enter()
    def open(self) -> None:
        self.value = self.start
        print(f"{self.name}: opened at {self.value}")

    @cloudfn.method()
    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    @cloudfn.method()
    def get(self) -> int:
        return self.value

    @cloudfn.exit()
    def close(self) -> None:
        print(f"{self.name}: closed at {self.value}")


@app.local_entrypoint()
def main() -> None:
    apples = Counter(name="apples")
    pears = Counter(name="pears", start=100)
    print("one apple:", apples.add.remote())
    print("five more:", apples.add.remote(n=5))
    print("pears:", pears.add.remote(1))
    print("counted by map:", sorted(apples.add.map([1, 1, 1])))
    print("in the end:", apples.get.remote(), "apples and", pears.get.remote(), "pears")
