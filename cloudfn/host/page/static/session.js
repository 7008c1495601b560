// The way to the host: a token for this very origin, requests, and one stream of events.

const PLACE = "cloudfn-token";
export class SignedOut extends Error {}

export const isSignedIn = () => Boolean(localStorage.getItem(PLACE));

// A link from `cloudfn host open` holds a ticket behind the #, which no server is sent and which is good once.
export async function redeemLink() {
  const found = /^#ticket=([\w-]+)$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", "#/");
  const answer = await fetch("/api/login", post({ ticket: found[1] }));
  const fields = await answer.json();
  if (answer.ok) localStorage.setItem(PLACE, fields.token);
  return answer.ok ? "" : fields.error;
}

const post = (fields) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(fields),
});

export async function ask(path, fields) {
  const options = fields ? post(fields) : { headers: {} };
  options.headers.Authorization = `Bearer ${localStorage.getItem(PLACE)}`;
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    localStorage.removeItem(PLACE);
    throw new SignedOut();
  }
  const said = await answer.json();
  if (!answer.ok) throw new Error([said.error, said.hint].filter(Boolean).join(" "));
  return said;
}

export async function signOut() {
  try {
    await ask("/api/logout", {});
  } finally {
    localStorage.removeItem(PLACE);
  }
}

// Events until `signal` says that nobody listens; returns when the host ends the stream.
export async function listen(view, onEvent, signal) {
  const headers = { Authorization: `Bearer ${localStorage.getItem(PLACE)}` };
  const answer = await fetch(`/api/stream?${new URLSearchParams(view)}`, { headers, signal });
  if (answer.status === 401) {
    localStorage.removeItem(PLACE);
    throw new SignedOut();
  }
  if (!answer.ok) {
    onEvent("gone", await answer.json());
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = /^event: (\w+)\ndata: (.*)$/s.exec(block);
      if (found) onEvent(found[1], JSON.parse(found[2]));
    }
  }
}
