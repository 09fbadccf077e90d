// Logging in and uploading, through the same API that everybody uses.
"use strict";

const $ = (id) => document.getElementById(id);
const entry = $("entry");
const upload = $("upload");
const POLL_MS = 500;
const POLLS_MAX = 240;

function say(text) {
  $("said").textContent = text;
}

function session() {
  return JSON.parse(sessionStorage.getItem("user") ?? "null");
}

function show() {
  const user = session();
  entry.hidden = user !== null;
  upload.hidden = user === null;
  $("who").textContent = user?.username ?? "";
}

function forget() {
  sessionStorage.removeItem("user");
  show();
}

// The answer's JSON; what went wrong is thrown in the API's own words.
async function api(method, path, body, type) {
  const headers = {};
  const user = session();
  if (user) headers.Authorization = `Token ${user.token}`;
  if (type) headers["Content-Type"] = type;
  const answer = await fetch(path, { method, headers, body });
  const json = answer.status === 204 ? null : await answer.json();
  if (answer.ok) return json;
  if (answer.status === 401 && user) forget();
  const faults = Object.entries(json.errors ?? {});
  throw new Error(faults.map(([what, why]) => `${what} ${why.join(", ")}`).join("; "));
}

entry.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(entry));
  const isNew = event.submitter?.name === "register";
  if (!isNew) delete fields.username;
  try {
    const path = isNew ? "/api/users" : "/api/users/login";
    const { user } = await api("POST", path, JSON.stringify({ user: fields }), "application/json");
    sessionStorage.setItem("user", JSON.stringify({ username: user.username, token: user.token }));
    entry.reset();
    say("");
    show();
  } catch (error) {
    say(error.message);
  }
});

$("logout").addEventListener("click", async () => {
  try {
    await api("POST", "/api/users/logout");
    forget();
    say("You are logged out, on every server.");
  } catch (error) {
    say(error.message);
  }
});

upload.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(upload);
  const file = fields.get("photo");
  const path = fields.get("profile") ? "/api/photos?profile=1" : "/api/photos";
  const item = document.createElement("li");
  try {
    let { photo } = await api("POST", path, file, "application/octet-stream");
    upload.reset();
    say("");
    $("photos").prepend(item);
    for (let polls = 0; polls < POLLS_MAX; polls += 1) {
      item.textContent = `${file.name}: ${photo.status}`;
      if (photo.status === "ready" || photo.status === "failed") break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      ({ photo } = await api("GET", `/api/photos/${photo.id}`));
    }
    if (photo.status === "failed") item.textContent += `, ${photo.error}`;
    if (photo.status === "ready") {
      const variant = photo.variants[1];
      const image = document.createElement("img");
      image.src = variant.url;
      image.width = variant.width;
      image.height = variant.height;
      image.alt = file.name;
      item.append(image);
    }
  } catch (error) {
    say(error.message);
  }
});

show();
