//! `stackbeam up`: start, say where everything is, wait for the end.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::run_file::RunFile;
use crate::control::{page_url, serve};
use crate::options::UpOptions;
use crate::print;
use crate::supervisor::events::Event;
use crate::supervisor::{Snapshot, StartError, Supervisor, random_hex};

/// Ports that are tried for the page, from its wish on.
const PAGE_PORTS: u16 = 200;

/// Why `up` ended without having served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
}

/// Runs everything until Ctrl-C, SIGTERM or `stackbeam down`.
pub(crate) async fn up(options: &UpOptions) -> Result<(), UpError> {
    let io = |what| move |source| UpError::Io { what, source };
    // Before anything is started, so that no signal finds us without an answer.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listening for Ctrl-C"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("listening for SIGTERM"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io("listening for SIGHUP"))?;
    let listener = page_listener(options.base_port.saturating_add(10))
        .await
        .map_err(io("no port for the page"))?;
    let control = listener.local_addr().map_err(io("the page's address"))?;
    let token = random_hex().map_err(io("drawing the run's token"))?;
    let mut options = options.clone();
    if options.seed == 0 {
        options.seed = crate::supervisor::wall_ms();
    }
    let supervisor = Supervisor::start(&options)?;
    let run = RunFile {
        control,
        token: token.clone(),
        pid: std::process::id(),
    };
    if let Err(over) = supervisor.remove_file_at_end(run.path()).await {
        tracing::warn!(over, "the run ended while it started");
    }
    run.write().map_err(io("making the run findable"))?;
    let page = tokio::spawn({
        let (supervisor, token) = (supervisor.clone(), token.clone());
        async move { serve(listener, supervisor, &token).await }
    });
    if options.quiet {
        let text = serde_json::to_string(&run).unwrap_or_default();
        print(&format!("{text}\n"));
    } else {
        print(&format!(
            "stackbeam starts; the live page, with a tour and buttons, is\n\n    {}\n\n",
            page_url(control, &token)
        ));
        tokio::spawn(tour(supervisor.clone(), options.rps));
    }
    let mut asked = 0;
    loop {
        tokio::select! {
            () = supervisor.ended() => break,
            _ = interrupt.recv() => asked += 1,
            _ = terminate.recv() => asked += 1,
            _ = hangup.recv() => asked += 1,
        }
        if !options.quiet && asked == 1 {
            print("\nstopping in order; once more for at once\n");
        }
        supervisor.down();
    }
    page.abort();
    run.remove();
    if !options.quiet {
        print(&match &options.state {
            Some(state) => format!(
                "stopped; no process is left running, and the data is in {}\n",
                state.display()
            ),
            None => "stopped; no process and no file is left\n".to_owned(),
        });
    }
    Ok(())
}

async fn page_listener(from: u16) -> std::io::Result<TcpListener> {
    let mut last = std::io::ErrorKind::AddrInUse.into();
    for port in from..=from.saturating_add(PAGE_PORTS) {
        match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Says what there is and what one can do, when everything answers; then says what happens.
async fn tour(supervisor: Supervisor, rps: u32) {
    let mut snapshots = supervisor.snapshot.clone();
    let Ok(snapshot) = snapshots
        .wait_for(|snapshot| snapshot.ready_ms.is_some() && snapshot.memory.rss_kb > 0)
        .await
        .map(|snapshot| std::sync::Arc::clone(&snapshot))
    else {
        return;
    };
    print(&table(&snapshot));
    let edge = snapshot
        .edge
        .map(|edge| edge.to_string())
        .unwrap_or_default();
    // As it was started here, so that a line can be copied to another terminal as it is.
    let me = std::env::args().next().unwrap_or_default();
    let load = match rps {
        0 => "no synthetic users: --rps 0".to_owned(),
        rps => format!("synthetic users send it {rps} requests a second"),
    };
    print(&format!(
        "\nThe service is at http://{edge}/ ({load}).\n\
         Now break it, on the live page or from another terminal in this folder:\n\n  \
         {me} kill web-1      one of two web servers: nobody should notice\n  \
         {me} kill store-0a   a database: if it was the primary, a replica takes over\n  \
         {me} lag 300         replicas apply late: people still read what they wrote\n  \
         {me} kill worker-1   a photo worker in mid-job: the job is done all the same\n  \
         {me} scale web 4     more web servers, while it serves\n  \
         {me} --help          the rest\n\n\
         Ctrl-C stops everything. What happens from now on (UTC):\n\n"
    ));
    let mut seen = 0;
    loop {
        for event in supervisor.events.after(seen) {
            seen = event.seq;
            print(&event_line(&event));
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The nodes of a run, a line each.
pub(crate) fn table(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{:<11} {:<22} {:>8} {:<9} {:>6}  role\n",
        "node", "address", "pid", "state", "MB"
    );
    for node in &snapshot.nodes {
        let role = node
            .status
            .as_ref()
            .and_then(|status| status.get("role"))
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let state = format!("{:?}", node.condition).to_lowercase();
        text.push_str(&format!(
            "{:<11} {:<22} {:>8} {:<9} {:>6}  {role}\n",
            node.id,
            node.addr.to_string(),
            node.pid,
            state,
            node.memory.rss_kb / 1024,
        ));
    }
    text.push_str(&format!(
        "all processes together: {} MB resident, {} MB with shared pages counted once\n",
        snapshot.memory.rss_kb / 1024,
        snapshot.memory.pss_kb / 1024
    ));
    text
}

/// One event as a line: when (UTC), who, what.
pub(crate) fn event_line(event: &Event) -> String {
    let ms = event.at_ms % 1000;
    let seconds = event.at_ms / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{ms:03}  {:<10} {}\n",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        event.node,
        event.text
    )
}
