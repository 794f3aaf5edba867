//! `orlop serve`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tokio::sync::oneshot;

use crate::config::{Input, Loaded, Log};
use crate::fsio::append_to;
use crate::server::{
    Drained, Hangups, Place, Server, Signal, Signals, forbid_core_dumps, notify, raise_descriptor_limit,
};
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
    let places = server.places().to_vec();
    let addresses: Vec<String> = places.iter().map(Place::to_string).collect();
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    let address = addresses.join(", ");
    tracing::info!(%address, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "listening");
    // A server goes on where nobody reads its greeting.
    let _ = output.text(&greeting(&places, server.tls().is_some(), server.is_open(), &data));

    notify("READY=1");
    let (stop, stopped) = oneshot::channel();
    let running = server.run(async {
        // An error means that nobody can ask for the end any more; the process is about to end then.
        let _ = stopped.await;
    });
    let ask = async {
        let first = signals.next().await;
        tracing::info!(signal = %first, "stopping; a second signal ends the server at once");
        notify("STOPPING=1");
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
fn greeting(places: &[Place], is_secure: bool, is_open: bool, data: &Path) -> String {
    let mut lines = vec![format!("Orlop {}", env!("CARGO_PKG_VERSION"))];
    let scheme = if is_secure { "https" } else { "http" };
    lines.extend(places.iter().map(|place| match place {
        Place::Address(address) => format!("Listening on {scheme}://{address}"),
        Place::Unix(_) => format!("Listening on {place}"),
    }));
    lines.push(format!("Data in {}", data.display()));
    if let Some(address) = places.iter().find_map(Place::address) {
        let local = SocketAddr::new(reachable(address.ip()), address.port());
        lines.push("Stop with Ctrl-C. Push an image with:".to_owned());
        lines.push(format!("  docker tag busybox {local}/busybox"));
        lines.push(format!("  docker push {local}/busybox"));
    } else {
        lines.push("Stop with Ctrl-C.".to_owned());
    }
    if places.iter().any(|place| !place.is_this_machine()) {
        if is_open {
            lines.push("Anybody who reaches this address can push and delete.".to_owned());
        }
        if !is_secure {
            lines.push(
                "Docker on other machines needs TLS (tls.certificate, or a proxy), or the address under"
                    .to_owned(),
            );
            lines.push("\"insecure-registries\".".to_owned());
        }
    }
    lines.join("\n") + "\n"
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

    fn greeting_of(address: [u8; 4], is_secure: bool, is_open: bool) -> String {
        let place = Place::Address(SocketAddr::from((address, 5001)));
        greeting(&[place], is_secure, is_open, Path::new("/srv/orlop"))
    }

    #[test]
    fn the_greeting_names_an_address_that_docker_can_use() {
        let text = greeting_of([0, 0, 0, 0], false, true);
        assert!(text.contains("Listening on http://0.0.0.0:5001\n"), "{text}");
        assert!(text.contains("docker push 127.0.0.1:5001/busybox"), "{text}");
        assert!(text.contains("Anybody who reaches"), "{text}");
        assert!(text.contains("Data in /srv/orlop\n"), "{text}");
        let text = greeting_of([0, 0, 0, 0], false, false);
        assert!(!text.contains("Anybody") && text.contains("insecure-registries"), "{text}");
        let text = greeting_of([0, 0, 0, 0], true, false);
        assert!(text.contains("Listening on https://0.0.0.0:5001\n"), "{text}");
        assert!(!text.contains("insecure-registries"), "{text}");
    }

    #[test]
    fn the_greeting_of_a_local_server_warns_of_nothing() {
        let text = greeting_of([127, 0, 0, 1], false, true);
        assert!(!text.contains("Anybody"), "{text}");
        let text = greeting(&[Place::Unix("/run/o.sock".into())], false, true, Path::new("/srv/orlop"));
        assert!(text.contains("Listening on unix:/run/o.sock\n") && !text.contains("docker"), "{text}");
    }
}
