"""A crawl: workers take pages from a Queue, put what they find back, and note in a Dict who has been where.

    cloudfn run examples/work_queue.py
    cloudfn run examples/work_queue.py --pages 500 --workers 4

The site is made up: page n links to pages 2n+1 and 2n+2, and to some that others have seen. No page is visited twice,
since `put(..., skip_if_exists=True)` tells one worker alone that it was first.
"""

import queue

import cloudfn

app = cloudfn.App("work-queue")


def links(page: int, pages: int) -> list[int]:
    return [other for other in (2 * page + 1, 2 * page + 2, page // 3) if other < pages]


@app.function()
def crawl(name: str, todo: cloudfn.Queue, seen: cloudfn.Dict, pages: int) -> int:
    visited = 0
    while seen.len() < pages:
        try:
            page = todo.get(timeout=0.2)
        except queue.Empty:
            continue  # the others are about to find more, or to finish
        visited += 1
        fresh = [other for other in links(page, pages) if seen.put(other, name, skip_if_exists=True)]
        todo.put_many(fresh)
    return visited


@app.local_entrypoint()
def main(pages: int = 100, workers: int = 2):
    with cloudfn.Queue.ephemeral() as todo, cloudfn.Dict.ephemeral() as seen:
        seen[0] = "start"
        todo.put(0)
        names = [f"worker {number + 1}" for number in range(workers)]
        calls = [crawl.spawn(name, todo, seen, pages) for name in names]
        visits = sum(call.get() for call in calls) + todo.len()
        print(f"{seen.len()} pages seen, {visits} visited or left to visit")
        print("all of them:", sorted(seen.keys()) == list(range(pages)))
