"use strict";
// Everything is put in with textContent: what users and strangers have written stays text.

const MOST_LINES = 100;
const byId = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

const named = (each) => `${each.host} · ${each.pid}`;

// The fleet

function card(each) {
  const state = each.is_silent && each.state !== "stale" ? "silent" : each.state;
  const made = element("article", undefined, `card ${state}`);
  made.dataset.instance = each.instance;
  made.dataset.pid = each.pid;
  const title = element("h3", named(each));
  title.append(element("span", state, "badge"));
  const facts = element("dl");
  const rows = [
    ["proven", each.staleness === null ? "not yet" : `${time(each.staleness)} ago`],
    ["behind by", time(each.lag)],
    ["position", each.position ?? "–"],
    ["revocations", each.entries.toLocaleString()],
    ["heard of", `${time(each.silence)} ago`],
    ["version", each.version + (each.is_self ? " · this one" : "")],
  ];
  for (const [name, value] of rows) facts.append(element("dt", name), element("dd", value));
  made.append(title, facts);
  return made;
}

function showFleet(fleet) {
  byId("count").textContent = String(fleet.length);
  byId("fleet").replaceChildren(...fleet.map(card));
  say("live", "Live");
}

function say(state, text) {
  const line = byId("connection");
  if (line.textContent !== text) line.textContent = text;
  line.className = state;
}

// The feed

function meaning(each) {
  const issuer = each.issuer ? ` of ${each.issuer}` : "";
  if (each.claim === "revokebus:everything") return "everybody";
  const names = { jti: "token", sid: "session", sub: "user" };
  const kept = each.kept === null ? "" : `, but session ${each.kept}`;
  return `${names[each.claim] ?? each.claim} ${each.value}${issuer}${kept}`;
}

function showRevocation(each) {
  byId("quiet").hidden = true;
  const line = element("li");
  const clock = new Date(each.at * 1000).toLocaleTimeString();
  const missed = each.missed ? ` (${each.missed} before it are not shown)` : "";
  line.append(element("span", meaning(each) + missed));
  line.append(element("span", each.seconds === null ? clock : `${clock} · ${time(each.seconds)}`));
  const feed = byId("feed");
  feed.prepend(line);
  while (feed.children.length > MOST_LINES) feed.lastElementChild.remove();
}

function listen() {
  const events = new EventSource("events");
  events.addEventListener("fleet", (event) => showFleet(JSON.parse(event.data)));
  events.addEventListener("revoked", (event) => showRevocation(JSON.parse(event.data)));
  events.addEventListener("trouble", (event) => say("lost", JSON.parse(event.data).detail));
  events.addEventListener("closing", () => say("lost", "This instance is ending"));
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) say("lost", "Not allowed any more; sign in and reload");
    else if (byId("connection").className !== "live") say("lost", "No connection; trying again");
  });
}

// The form

function csrf() {
  const wanted = `${meta("csrf-cookie")}=`;
  const found = document.cookie.split("; ").find((each) => each.startsWith(wanted));
  return found ? { [meta("csrf-header")]: found.slice(wanted.length) } : {};
}

const OUTCOMES = {
  applied: (each) => ["applied", `refuses it · ${each.seconds ? time(each.seconds) : "at once"}`],
  ended: () => ["", "has ended"],
  stale: () => ["warn", "knows that it is stale"],
  silent: () => ["failed", "has not answered"],
};

function showReceipt(receipt) {
  const result = byId("result");
  const answers = [...(receipt.confirmations ?? [])].sort((a, b) => named(a).localeCompare(named(b)));
  const missing = answers.filter((each) => each.outcome === "silent").length;
  const summary = receipt.confirmations === null
    ? element("strong", "Recorded; who has applied it is not known.", "warn")
    : missing
      ? element("strong", `Recorded; ${missing} of ${answers.length} have not answered.`, "failed")
      : receipt.knows_all
        ? element("strong", "Refused everywhere.", "applied")
        : element("strong", "Refused by all that are known. Redis, or its data, is new: an instance that "
          + "was cut off before may accept it until it is stale.", "warn");
  const list = element("ul");
  for (const each of answers) {
    const [className, text] = OUTCOMES[each.outcome](each);
    const line = element("li");
    line.dataset.pid = each.pid;
    line.append(element("span", named(each)), element("span", text, className));
    list.append(line);
  }
  result.replaceChildren(summary, list);
}

async function revoke(event) {
  event.preventDefault();
  const order = { kind: byId("kind").value, value: byId("value").value };
  const keep = byId("keep").value.trim();
  if (order.kind === "subject" && keep) order.keep = keep;
  byId("sessions").replaceChildren();
  await send(byId("send"), order);
}

async function send(button, order) {
  button.disabled = true;
  byId("result").replaceChildren(element("span", "Asking every instance …", "hint"));
  try {
    const answer = await fetch("revoke", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...csrf() },
      body: JSON.stringify(order),
    });
    const told = await answer.json();
    if (answer.ok) showReceipt(told);
    else byId("result").replaceChildren(element("strong", reason(answer.status, told), "failed"));
  } catch {
    byId("result").replaceChildren(element("strong", "No answer; it is not known whether it was revoked.", "failed"));
  } finally {
    button.disabled = false;
  }
}

// The sessions of a user

function showSession(each) {
  const line = element("li");
  line.dataset.session = each.session_id;
  const used = each.refreshed_at ?? each.signed_in_at;
  const moment = (seconds) => new Date(seconds * 1000).toLocaleString();
  const button = element("button", "End this session");
  button.type = "button";
  button.addEventListener("click", async () => {
    await send(button, { kind: "session", value: each.session_id });
    await look();
  });
  line.append(
    element("strong", each.device || "a device without a name"),
    element("span", `signed in ${moment(each.signed_in_at)}, last used ${moment(used)}`),
    element("span", each.session_id, "hint"),
    button,
  );
  return line;
}

async function look() {
  const list = byId("sessions");
  const asked = new URLSearchParams({ subject: byId("value").value });
  try {
    const answer = await fetch(`sessions?${asked}`);
    const told = await answer.json();
    if (!answer.ok) list.replaceChildren(element("li", reason(answer.status, told), "failed"));
    else if (told.length) list.replaceChildren(...told.map(showSession));
    else list.replaceChildren(element("li", "None is listed: sessions are that bus.sign_in has begun.", "hint"));
  } catch {
    list.replaceChildren(element("li", "No answer.", "failed"));
  }
}

function reason(status, told) {
  const detail = typeof told.detail === "string" ? told.detail : "the form is not filled in rightly";
  return `${status}: ${detail}`;
}

byId("form").addEventListener("submit", revoke);
byId("look").addEventListener("click", () => byId("value").reportValidity() && look());
byId("kind").addEventListener("change", (event) => {
  const isSubject = event.target.value === "subject";
  byId("value-label").textContent = isSubject ? "Subject" : "Session";
  byId("keep-label").hidden = byId("look").hidden = !isSubject;
});
listen();
