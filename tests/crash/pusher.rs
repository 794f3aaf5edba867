//! A client that pushes, tags and deletes until the server dies.

use std::io;

use crate::ledger::{Doubt, Image, Ledger, Upload, digest_of};
use crate::random::{Content, Random};
use crate::wire::{Body, Connection};

const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Works on the ledger's repository; returns only when the connection breaks.
pub(crate) fn push(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    random: &mut Random,
) -> io::Result<std::convert::Infallible> {
    loop {
        step(connection, ledger, random)?;
    }
}

fn step(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    match random.below(20) {
        0..4 => push_at_once(connection, ledger, random),
        4..7 => push_in_two(connection, ledger, random),
        7..9 => push_streamed(connection, ledger, random),
        9..13 => push_in_chunks(connection, ledger, random),
        13..16 => push_image(connection, ledger, random),
        16 => retag(connection, ledger, random),
        17 => untag(connection, ledger, random),
        18 => delete_image(connection, ledger, random),
        _ => delete_blob(connection, ledger, random),
    }
}

fn small(random: &mut Random) -> Content {
    Content::new(random.next(), usize::try_from(8 + random.below(4000)).unwrap())
}

fn medium(random: &mut Random) -> Content {
    // On both sides of the size from which a blob gets a thread of its own while it is received.
    Content::new(random.next(), usize::try_from(8 + random.below(400 << 10)).unwrap())
}

/// Sends the request that publishes a blob.
fn publish(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    (method, path): (&str, &str),
    (digest, content): (String, Content),
    body: &[u8],
) -> io::Result<()> {
    ledger.doubt = Some(Doubt::Blob(digest.clone(), content));
    connection.request(method, path, &[], Body::Whole(body))?.expect(201);
    ledger.doubt = None;
    ledger.has_blob(digest, content);
    Ok(())
}

fn push_at_once(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let content = small(random);
    let bytes = content.bytes();
    let digest = digest_of(&bytes);
    let path = format!("/v2/{}/blobs/uploads/?digest={digest}", ledger.repository);
    publish(connection, ledger, ("POST", &path), (digest, content), &bytes)
}

/// Begins an upload and returns its location.
fn begin(connection: &mut Connection<'_>, ledger: &Ledger) -> io::Result<String> {
    let path = format!("/v2/{}/blobs/uploads/", ledger.repository);
    let answer = connection.request("POST", &path, &[], Body::Empty)?.expect(202);
    Ok(answer.header("location").unwrap().to_owned())
}

fn push_in_two(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let content = medium(random);
    let bytes = content.bytes();
    let digest = digest_of(&bytes);
    let path = format!("{}?digest={digest}", begin(connection, ledger)?);
    publish(connection, ledger, ("PUT", &path), (digest, content), &bytes)
}

/// As Docker pushes: one PATCH of unknown length.
fn push_streamed(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    random: &mut Random,
) -> io::Result<()> {
    let content = medium(random);
    let bytes = content.bytes();
    let digest = digest_of(&bytes);
    let location = begin(connection, ledger)?;
    ledger.absent.insert(digest.clone());
    let answer = connection.request("PATCH", &location, &[], Body::Streamed(&bytes))?.expect(202);
    ledger.absent.remove(&digest);
    let path = format!("{}?digest={digest}", answer.header("location").unwrap());
    publish(connection, ledger, ("PUT", &path), (digest, content), b"")
}

fn push_in_chunks(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    random: &mut Random,
) -> io::Result<()> {
    let content = medium(random);
    let digest = digest_of(&content.bytes());
    let location = begin(connection, ledger)?;
    ledger.absent.insert(digest.clone());
    ledger.uploads.push(Upload { location, digest, content, acknowledged: 0, sent: 0, is_finishing: false });
    let at = ledger.uploads.len() - 1;
    finish(connection, ledger, random, at)
}

/// Sends what is missing of an upload, in chunks that are acknowledged one by one, and finishes it.
pub(crate) fn finish(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    random: &mut Random,
    at: usize,
) -> io::Result<()> {
    let bytes = ledger.uploads[at].content.bytes();
    // Now and then the last chunk travels with the request that finishes the upload.
    let kept = if random.below(3) == 0 { bytes.len().min(1000) } else { 0 };
    loop {
        let upload = &mut ledger.uploads[at];
        let start = usize::try_from(upload.acknowledged).unwrap();
        let end = (start + 16_384 + usize::try_from(random.below(100_000)).unwrap()).min(bytes.len() - kept);
        if start >= end {
            break;
        }
        upload.sent = end as u64;
        let range = format!("{start}-{}", end - 1);
        let location = upload.location.clone();
        let headers = [("Content-Range", range.as_str()), ("Content-Type", "application/octet-stream")];
        let answer =
            connection.request("PATCH", &location, &headers, Body::Whole(&bytes[start..end]))?.expect(202);
        assert_eq!(answer.header("range"), Some(format!("0-{}", end - 1).as_str()));
        let upload = &mut ledger.uploads[at];
        upload.acknowledged = end as u64;
        upload.location.replace_range(.., answer.header("location").unwrap());
    }
    let upload = &mut ledger.uploads[at];
    upload.is_finishing = true;
    upload.sent = bytes.len() as u64;
    let (digest, content) = (upload.digest.clone(), upload.content);
    let start = usize::try_from(upload.acknowledged).unwrap();
    let separator = if upload.location.contains('?') { '&' } else { '?' };
    let path = format!("{}{separator}digest={digest}", upload.location);
    ledger.absent.remove(&digest);
    connection.request("PUT", &path, &[], Body::Whole(&bytes[start..]))?.expect(201);
    ledger.uploads.remove(at);
    ledger.has_blob(digest, content);
    Ok(())
}

/// A tag out of few, so that they are moved often.
fn some_tag(random: &mut Random) -> String {
    format!("v{}", random.below(12))
}

fn push_image(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let known: Vec<String> = ledger.blobs.keys().cloned().collect();
    let Some(config) = random.pick(&known).cloned() else { return Ok(()) };
    let mut blobs = vec![config];
    for _ in 0..random.below(3) {
        blobs.extend(random.pick(&known).cloned());
    }
    let descriptor = |kind: &str, digest: &String| {
        let size = ledger.blobs[digest].bytes().len();
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<String> =
        blobs[1..].iter().map(|digest| descriptor("layer.v1.tar+gzip", digest)).collect();
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_TYPE}","config":{},"layers":[{}],"annotations":{{"n":"{}"}}}}"#,
        descriptor("config.v1+json", &blobs[0]),
        layers.join(","),
        random.next(),
    )
    .into_bytes();
    let digest = digest_of(&bytes);
    let tag = (random.below(4) > 0).then(|| some_tag(random));
    put_image(connection, ledger, digest, Image { bytes, blobs }, tag)
}

fn retag(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let images: Vec<String> = ledger.images.keys().cloned().collect();
    let Some(digest) = random.pick(&images).cloned() else { return Ok(()) };
    let image = ledger.images[&digest].clone();
    let tag = some_tag(random);
    put_image(connection, ledger, digest, image, Some(tag))
}

fn put_image(
    connection: &mut Connection<'_>,
    ledger: &mut Ledger,
    digest: String,
    image: Image,
    tag: Option<String>,
) -> io::Result<()> {
    let reference = tag.as_ref().unwrap_or(&digest);
    let path = format!("/v2/{}/manifests/{reference}", ledger.repository);
    ledger.doubt = Some(Doubt::Image { digest: digest.clone(), image: image.clone(), tag: tag.clone() });
    let headers = [("Content-Type", IMAGE_TYPE)];
    connection.request("PUT", &path, &headers, Body::Whole(&image.bytes))?.expect(201);
    ledger.doubt = None;
    ledger.has_image(digest.clone(), image);
    if let Some(tag) = tag {
        ledger.tags.insert(tag, digest);
    }
    Ok(())
}

fn untag(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let tags: Vec<String> = ledger.tags.keys().cloned().collect();
    let Some(tag) = random.pick(&tags).cloned() else { return Ok(()) };
    ledger.doubt = Some(Doubt::Untag(tag.clone()));
    delete(connection, ledger, &format!("manifests/{tag}"))?;
    ledger.doubt = None;
    ledger.tags.remove(&tag);
    Ok(())
}

fn delete_image(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let images: Vec<String> = ledger.images.keys().cloned().collect();
    let Some(digest) = random.pick(&images).cloned() else { return Ok(()) };
    ledger.doubt = Some(Doubt::DeleteImage(digest.clone()));
    delete(connection, ledger, &format!("manifests/{digest}"))?;
    ledger.doubt = None;
    ledger.lost_image(&digest);
    Ok(())
}

fn delete_blob(connection: &mut Connection<'_>, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
    let Some(digest) = random.pick(&ledger.loose_blobs()).cloned() else { return Ok(()) };
    ledger.doubt = Some(Doubt::DeleteBlob(digest.clone()));
    delete(connection, ledger, &format!("blobs/{digest}"))?;
    ledger.doubt = None;
    ledger.lost_blob(&digest);
    Ok(())
}

fn delete(connection: &mut Connection<'_>, ledger: &Ledger, what: &str) -> io::Result<()> {
    let path = format!("/v2/{}/{what}", ledger.repository);
    connection.request("DELETE", &path, &[], Body::Empty)?.expect(202);
    Ok(())
}
