// Logging in, writing and uploading, through the same API that everybody uses.
"use strict";

const $ = (id) => document.getElementById(id);
const entry = $("entry");
const upload = $("upload");
const write = $("write");
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
  $("inside").hidden = user === null;
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
  const answer = await fetch(path, { method, headers, body }).catch(() => {
    throw new Error("The service does not answer.");
  });
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

// An article as the server's own list shows it.
function item(article) {
  const link = document.createElement("a");
  link.href = `/api/articles/${article.slug}`;
  link.textContent = article.title;
  const heading = document.createElement("h3");
  heading.append(link);
  const sentence = document.createElement("p");
  sentence.textContent = article.description;
  const by = document.createElement("p");
  by.className = "by";
  by.textContent = `${article.author.username}, ${article.createdAt}`;
  const line = document.createElement("li");
  line.append(heading, sentence, by);
  return line;
}

write.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(write));
  try {
    const { article } = await api("POST", "/api/articles", JSON.stringify({ article: fields }), "application/json");
    write.reset();
    say("Published.");
    $("articles").prepend(item(article));
  } catch (error) {
    say(error.message);
  }
});

// The small versions that workers have made: the middle one as a picture, all as links.
function variants(photo, name) {
  const [, middle] = photo.variants;
  const image = document.createElement("img");
  image.src = middle.url;
  image.width = middle.width;
  image.height = middle.height;
  image.alt = name;
  const links = photo.variants.map(({ url, width, height }) => {
    const link = document.createElement("a");
    link.href = url;
    link.textContent = `${width} × ${height}`;
    return link;
  });
  return [image, ...links.flatMap((link) => [link, " "])];
}

upload.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(upload);
  const file = fields.get("photo");
  const path = fields.get("profile") ? "/api/photos?profile=1" : "/api/photos";
  const line = document.createElement("li");
  try {
    let { photo } = await api("POST", path, file, "application/octet-stream");
    upload.reset();
    say("");
    $("photos").prepend(line);
    for (let polls = 0; polls < POLLS_MAX; polls += 1) {
      line.textContent = `${file.name}: ${photo.status}`;
      if (photo.status === "ready" || photo.status === "failed") break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      ({ photo } = await api("GET", `/api/photos/${photo.id}`));
    }
    if (photo.status === "failed") line.textContent += `, ${photo.error}`;
    if (photo.status === "ready") line.append(...variants(photo, file.name));
  } catch (error) {
    say(error.message);
  }
});

show();
