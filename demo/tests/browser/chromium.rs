//! A real Chromium, driven through its debugging pipe.
//!
//! No driver and no library in between: Chromium reads commands of the DevTools protocol from file
//! descriptor 3 and writes answers and events to 4, JSON with a NUL after each. A shell moves standard
//! input and output there. Chromium ends when the pipe closes, so that none outlives a test, however
//! the test ends.
//!
//! Protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PATIENCE, World, eventually, now};

/// What is said to Chromium besides where its profile is. The sandbox does not work for root, and the
/// only pages it sees are our own. Containers have little shared memory. The rest keeps it from talking
/// to anybody else.
const FLAGS: [&str; 11] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
];

/// A browser with a fresh profile in the folders of a [`World`]. Ends on drop.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    log: PathBuf,
    wire: RefCell<Wire>,
}

#[derive(Debug)]
struct Wire {
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    asked: u64,
    /// Events of all pages, oldest first.
    events: Vec<Value>,
}

impl Browser {
    /// Starts Chromium.
    pub(crate) fn start(world: &World) -> Self {
        let profile = world.path("profile");
        let log = world.path("chromium.log");
        let err = std::fs::File::create(&log).unwrap();
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#,
                "chromium",
            ])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .env("TMPDIR", world.path("tmp"))
            .env("HOME", &profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (heard, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                let Ok(value) = serde_json::from_slice(text) else {
                    break;
                };
                if heard.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let wire = RefCell::new(Wire {
            to: child.stdin.take(),
            from,
            asked: 0,
            events: Vec::new(),
        });
        let browser = Self { child, log, wire };
        browser.ask(None, "Browser.getVersion", &json!({}));
        browser
    }

    /// Opens an empty page.
    pub(crate) fn page(&self) -> Page<'_> {
        let target = self.ask(
            None,
            "Target.createTarget",
            &json!({ "url": "about:blank" }),
        );
        let target = &target["targetId"];
        let how = json!({ "targetId": target, "flatten": true });
        let session = self.ask(None, "Target.attachToTarget", &how);
        let page = Page {
            browser: self,
            session: session["sessionId"].as_str().unwrap().to_owned(),
        };
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"] {
            page.ask(&format!("{domain}.enable"), &json!({}));
        }
        page
    }

    /// One command and its answer; panics with Chromium's words when it refuses.
    fn ask(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let mut wire = self.wire.borrow_mut();
        wire.asked += 1;
        let id = wire.asked;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        // A Chromium that is not there is told by the answer that does not come.
        let _gone = wire.to.as_mut().unwrap().write_all(&bytes);
        let deadline = now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(now());
            let heard = wire.from.recv_timeout(left);
            let heard = heard.unwrap_or_else(|error| {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!(
                    "{method}: {error}; `cargo xtask services` installs Chromium, which said {log}"
                )
            });
            if heard["id"] == id {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
            wire.events.push(heard);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the pipe is the order to end.
        self.wire.get_mut().to = None;
        let deadline = now() + Duration::from_secs(5);
        loop {
            let left = deadline.saturating_duration_since(now());
            match self.wire.get_mut().from.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _gone = self.child.kill();
                    break;
                }
            }
        }
        let _reaped = self.child.wait();
    }
}

/// One page of a [`Browser`].
#[derive(Debug)]
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

impl Page<'_> {
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        self.browser.ask(Some(&self.session), method, params)
    }

    /// Goes to `url` and waits until it is loaded.
    pub(crate) fn go(&self, url: &str) {
        let went = self.ask("Page.navigate", &json!({ "url": url }));
        assert!(went["errorText"].is_null(), "{url}: {}", went["errorText"]);
        self.wait("the page is loaded", "document.readyState === 'complete'");
    }

    /// Shows the page as on a screen of that size, in the `light` or the `dark` scheme.
    pub(crate) fn screen(&self, width: u32, height: u32, scheme: &str) {
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask(
            "Emulation.setEmulatedMedia",
            &json!({ "features": feature }),
        );
    }

    /// What `script`, an expression, gives; a promise is waited for.
    pub(crate) fn eval(&self, script: &str) -> Value {
        let how = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let mut gave = self.ask("Runtime.evaluate", &how);
        let fault = &gave["exceptionDetails"];
        assert!(fault.is_null(), "{script}: {fault}");
        gave["result"]["value"].take()
    }

    /// Waits until `script` gives something true, and gives that.
    pub(crate) fn wait(&self, wish: &str, script: &str) -> Value {
        eventually(wish, PATIENCE, || {
            let value = self.eval(script);
            let no = matches!(&value, Value::Null | Value::Bool(false)) || value == "";
            (!no).then_some(value)
        })
    }

    /// Clicks the middle of what `selector` finds, as a person would: it must be there, be enabled, and
    /// lie open.
    pub(crate) fn click(&self, selector: &str) {
        let place = self.wait(
            &format!("{selector} can be clicked"),
            &format!(
                "(() => {{
                  const element = document.querySelector({selector:?});
                  if (!element || element.disabled) return null;
                  element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                  const box = element.getBoundingClientRect();
                  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                  const top = document.elementFromPoint(x, y);
                  return element.contains(top) ? [x, y] : null;
                }})()"
            ),
        );
        for kind in ["mousePressed", "mouseReleased"] {
            let how = json!({ "type": kind, "x": place[0], "y": place[1],
                "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", &how);
        }
    }

    /// Types `text` into what `selector` finds, key by key as far as the page can tell.
    pub(crate) fn write(&self, selector: &str, text: &str) {
        self.click(selector);
        self.ask("Input.insertText", &json!({ "text": text }));
    }

    /// Presses a key: `Tab`, `Enter`, or a character.
    pub(crate) fn press(&self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            "Tab" => "",
            character => character,
        };
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            character => character.as_bytes().first().copied().unwrap_or_default(),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut how = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                how["text"] = text.into();
            }
            self.ask("Input.dispatchKeyEvent", &how);
        }
    }

    /// Chooses `file` in the file field that `selector` finds.
    pub(crate) fn choose(&self, selector: &str, file: &Path) {
        let document = self.ask("DOM.getDocument", &json!({ "depth": 0 }));
        let whom = json!({ "nodeId": document["root"]["nodeId"], "selector": selector });
        let field = self.ask("DOM.querySelector", &whom);
        let what = json!({ "nodeId": field["nodeId"], "files": [file] });
        self.ask("DOM.setFileInputFiles", &what);
    }

    /// Everything that went wrong since the page was opened: exceptions, errors and warnings on the
    /// console (a breach of the content policy is one), and requests to anybody but `origins`.
    pub(crate) fn faults(&self, origins: &[&str]) -> Vec<String> {
        // Whatever is on its way arrives before this answer.
        self.eval("1");
        let wire = self.browser.wire.borrow();
        let mine = |event: &&Value| event["sessionId"] == self.session.as_str();
        let is_loud = |level: &Value| level == "error" || level == "warning" || level == "assert";
        wire.events
            .iter()
            .filter(mine)
            .filter_map(|event| {
                let params = &event["params"];
                match event["method"].as_str()? {
                    "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                    "Runtime.consoleAPICalled" if is_loud(&params["type"]) => {
                        Some(params["args"].to_string())
                    }
                    "Log.entryAdded" if is_loud(&params["entry"]["level"]) => {
                        Some(params["entry"].to_string())
                    }
                    "Network.requestWillBeSent" => {
                        let url = params["request"]["url"].as_str()?;
                        let known = origins.iter().any(|origin| url.starts_with(origin));
                        (!known).then(|| format!("a request to {url}"))
                    }
                    _ => None,
                }
            })
            .collect()
    }
}
