//! nginx with a configuration of the test's.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    Error, Server,
    error::Doing,
    program::Program,
    server::{Kind, ask},
};

static KIND: Kind = Kind {
    program: Program {
        name: "nginx",
        package: "nginx",
    },
    scheme: "http",
    end_with: "TERM",
    stop_with: "QUIT",
    answers: |address| ask(address, b"GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 "),
};

/// Starts an nginx. `http` is given the address to listen on and returns what goes inside the
/// `http { }` block; it is asked again if the port turns out to be taken.
///
/// ```no_run
/// let origin = "127.0.0.1:8080";
/// let nginx = stackbeam_test_support::nginx::start(|listen| {
///     format!("server {{ listen {listen}; location / {{ proxy_pass http://{origin}; }} }}")
/// })?;
/// # Ok::<(), stackbeam_test_support::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Absent`] without the program, and whatever kept the server from starting: what nginx
/// finds wrong in the configuration is in [`Error::Ended`].
pub fn start(mut http: impl FnMut(SocketAddr) -> String) -> Result<Server, Error> {
    Server::start(&KIND, |folder, address| {
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(folder, &http(address)))
            .doing("writing nginx's configuration")?;
        let folder = folder.display().to_string();
        let file = file.display().to_string();
        Ok(["-p", &folder, "-c", &file, "-e", "stderr"]
            .map(str::to_owned)
            .into())
    })
}

fn configuration(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\n\
         worker_processes 1;\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path {folder}/body;\n\
         proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\n\
         scgi_temp_path {folder}/scgi;\n\
         {http}\n\
         }}\n"
    )
}
