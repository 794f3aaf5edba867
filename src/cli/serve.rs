//! `orlop serve`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tokio::sync::oneshot;

use crate::config::{Input, Loaded, Log};
use crate::fsio::append_to;
use crate::server::{Drained, Hangups, Server, Signal, Signals, forbid_core_dumps, raise_descriptor_limit};
use crate::telemetry::start_logs;

use super::config::ConfigArguments;
use super::output::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop serve
  orlop serve --listen 0.0.0.0:5000 --set access.htpasswd=/etc/orlop/users --data /var/lib/orlop
  orlop serve --config /etc/orlop.toml --set delete.blobs=false
  orlop serve --listen 127.0.0.1:0                any free port; the first lines say which
  orlop serve --cache docker.io --cache ghcr.io   a mirror of these beside your own images

Push an image to it:
  docker tag busybox 127.0.0.1:5000/busybox
  docker push 127.0.0.1:5000/busybox

Health and metrics:
  http://127.0.0.1:5000/livez   /readyz   /metrics";

pub(super) fn run(arguments: &ConfigArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let loaded = arguments.load()?;
    let Log { level, format, audit, audit_file } = &loaded.config.log;
    let audit_file = audit_file.as_deref().map(append_to).transpose();
    start_logs(*level, *format, *audit, audit_file.context("log.audit_file can't be used")?);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if !forbid_core_dumps() {
        tracing::warn!("after a crash the system may write what was in memory to a file, passwords included");
    }
    if let Some(limit) = raise_descriptor_limit() {
        tracing::debug!(limit, "open files");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let ended = runtime.block_on(serve(arguments.input(), loaded, output));
    // After a second signal nothing is waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(input: Input, loaded: Loaded, output: &mut Output) -> anyhow::Result<ExitCode> {
    // Before anything that takes time, so that a signal is never missed.
    let mut signals = Signals::new().context("cannot receive signals")?;
    let hangups = Hangups::new().context("cannot receive signals")?;
    let config = loaded.config.clone();
    let mut server = Server::start(&config).await?;
    server.follow(input, loaded, hangups);
    let address = server.address();
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    tracing::info!(%address, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "listening");
    // A server goes on where nobody reads its greeting.
    let _ = output.text(&greeting(address, server.is_open(), &data));

    let (stop, stopped) = oneshot::channel();
    let running = server.run(async {
        // An error means that nobody can ask for the end any more; the process is about to end then.
        let _ = stopped.await;
    });
    let ask = async {
        let first = signals.next().await;
        tracing::info!(signal = %first, "stopping; a second signal ends the server at once");
        // The server may have ended by itself.
        let _ = stop.send(());
        signals.next().await
    };
    tokio::select! {
        drained = running => {
            match drained {
                Drained::Completely => tracing::info!("stopped"),
                Drained::Cut(connections) => {
                    tracing::warn!(connections, "stopped; connections were cut after limits.drain_timeout");
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        second = ask => {
            tracing::warn!(signal = %second, "ended at once");
            Ok(ExitCode::from(match second {
                Signal::Interrupt => 130,
                Signal::Terminate => 143,
            }))
        }
    }
}

/// The first lines that people see.
fn greeting(address: SocketAddr, is_open: bool, data: &Path) -> String {
    let local = SocketAddr::new(reachable(address.ip()), address.port());
    let mut text = format!(
        "Orlop {version}\n\
         Listening on http://{address}\n\
         Data in {data}\n\
         Stop with Ctrl-C. Push an image with:\n\
         \x20 docker tag busybox {local}/busybox\n\
         \x20 docker push {local}/busybox\n",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
    );
    if !address.ip().to_canonical().is_loopback() {
        if is_open {
            text.push_str("Anybody who reaches this address can push and delete.\n");
        }
        text.push_str("Docker on other machines needs TLS in front of it, or the address under \"insecure-registries\".\n");
    }
    text
}

/// An address that a client on this machine can use for a server that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_names_an_address_that_docker_can_use() {
        let text = greeting(SocketAddr::from(([0, 0, 0, 0], 5001)), true, Path::new("/srv/orlop"));
        assert!(text.contains("Listening on http://0.0.0.0:5001\n"), "{text}");
        assert!(text.contains("docker push 127.0.0.1:5001/busybox"), "{text}");
        assert!(text.contains("Anybody who reaches"), "{text}");
        assert!(text.contains("Data in /srv/orlop\n"), "{text}");
        let text = greeting(SocketAddr::from(([0, 0, 0, 0], 5001)), false, Path::new("/srv/orlop"));
        assert!(!text.contains("Anybody") && text.contains("insecure-registries"), "{text}");
    }

    #[test]
    fn the_greeting_of_a_local_server_warns_of_nothing() {
        let text = greeting(SocketAddr::from(([127, 0, 0, 1], 5000)), true, Path::new("/srv/orlop"));
        assert!(!text.contains("Anybody"), "{text}");
    }
}
