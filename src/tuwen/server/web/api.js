// Requests to the service with its key, and their errors.

export class Failed extends Error {
  /** `code` is the service's own word, or "offline"; `wait` the seconds after which it asks to be called again. */
  constructor(status, code, message, wait = 0) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

let key = sessionStorage.getItem("tuwen.key");
let asking = null;
let door = null;

/** What asks a person for a key: called with whether one was refused, it gives the key, or null. */
export function guard(ask) {
  door = ask;
}

export const locked = () => key !== null;

/** Call the service: `body` is a FormData or a value for JSON. A JSON answer is read, any other is given as a Blob. */
export async function call(method, path, body, signal) {
  const used = key;
  const answer = await reach(method, path, body, signal);
  if (answer.status === 401) return (await unlocked(used)) ? call(method, path, body, signal) : fail(answer);
  if (!answer.ok) return fail(answer);
  return answer.headers.get("content-type")?.includes("json") ? answer.json() : answer.blob();
}

async function reach(method, path, body, signal) {
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  if (body && !(body instanceof FormData)) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(body);
  }
  try {
    return await fetch(path, { method, headers, body, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failed(0, "offline", String(error.message));
  }
}

/** Ask for a key, once for all requests that wait for it. */
async function unlocked(used) {
  if (key !== used) return true;
  asking ??= door(used !== null).finally(() => (asking = null));
  const given = await asking;
  if (given === null) return false;
  key = given;
  sessionStorage.setItem("tuwen.key", key);
  return true;
}

async function fail(answer) {
  const said = await answer.json().catch(() => ({}));
  const { code = "failed", message = `${answer.status} ${answer.statusText}` } = said.error ?? {};
  throw new Failed(answer.status, code, message, Number(answer.headers.get("retry-after")) || 0);
}
