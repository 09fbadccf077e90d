//! A reverse proxy of axum, tower and hyper in front of three web servers, one slow and one sick:
//! `cargo run --example axum_proxy --features tower`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example is a shell that prints"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use stackbeam_lb::tower::{BalanceLayer, Directed};
use stackbeam_lb::{Balancer, Config, Endpoint, LeastLoad, Outcome, PeakEwma};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A web server on a free port that answers everything with its name after a while.
async fn web(name: &'static str, wait: u64, status: StatusCode) -> std::io::Result<SocketAddr> {
    let app = Router::new().fallback(move || async move {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        (status, name)
    });
    serve(app).await
}

async fn serve(app: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// What an answer says of the server: 503 and 429 that it is busy, another 5xx that it is sick.
fn judge<B>(result: &Result<Response<B>, Error>) -> Outcome {
    match result.as_ref().map(Response::status) {
        Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => Outcome::Busy,
        Ok(status) if status.is_server_error() => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let balancer = Balancer::new(LeastLoad::new(PeakEwma), Config::default());
    let servers = [
        ("quick", web("quick", 2, StatusCode::OK).await?),
        ("slow", web("slow", 40, StatusCode::OK).await?),
        (
            "sick",
            web("sick", 0, StatusCode::INTERNAL_SERVER_ERROR).await?,
        ),
    ];
    let listed = servers.map(|(name, address)| Endpoint::new(name, address));
    balancer.set_endpoints(listed, Instant::now());

    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let send = service_fn(move |directed: Directed<SocketAddr, Request<Body>>| {
        let Directed {
            target,
            mut request,
        } = directed;
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let uri = format!("http://{target}{path}").parse::<Uri>();
        *request.uri_mut() = uri.unwrap_or_default();
        client.request(request)
    });
    let proxy = ServiceBuilder::new()
        .layer(BalanceLayer::new(balancer.clone()).with_judge(judge))
        .service(send);
    let edge = serve(Router::new().fallback(move |request: Request<Body>| {
        let sent = proxy.clone().oneshot(request);
        async {
            match sent.await {
                Ok(answer) => answer.into_response(),
                Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
            }
        }
    }))
    .await?;

    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut good = 0;
    for n in 0..200 {
        let uri = format!("http://{edge}/photos/{n}").parse()?;
        good += u32::from(client.get(uri).await?.status().is_success());
    }
    println!("{good} of 200 requests were answered well");
    for endpoint in balancer.stats(Instant::now()).endpoints {
        println!(
            "{:>5}: {:>3} requests, {:>3} failed, expected latency {:?}",
            endpoint.id, endpoint.picked, endpoint.failed, endpoint.latency
        );
    }
    Ok(())
}
