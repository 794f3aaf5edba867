//! Group commit: one push, and sixteen that wait for the same commit, each durable when it is answered.
//!
//! What is counted is what the writer thread does between two waits, `commit_batch`. How many writes share a commit is a
//! matter of who comes when; here a look-up holds the thread until all of them wait.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::join_all;
use orlop::metadata::{CacheOptions, Error, Metadata};
use tokio::runtime::{Builder, Runtime};

use crate::case::Case;
use crate::store::{Image, Store};

/// The function of the writer thread that does all of a commit.
const COMMIT: &str = "*commit_batch*";

/// Keeps the writer thread in a transaction that writes nothing, until it is released. Both wait in the kernel, so that
/// neither of them counts anything.
struct Halt {
    release: UnixStream,
}

impl Halt {
    fn begin(metadata: &Metadata, runtime: &Runtime) -> (Halt, impl Future<Output = ()>) {
        let (mut entered, entering) = UnixStream::pair().expect("a pair of sockets can be made");
        let (release, released) = UnixStream::pair().expect("a pair of sockets can be made");
        let halted = metadata.write(move |_| {
            (&entering).write_all(b"e").expect("the other side listens");
            (&released).read_exact(&mut [0]).expect("the other side releases it");
            Ok::<_, Error>(())
        });
        let mut halted = Box::pin(halted.map(|result| result.expect("it writes nothing")));
        runtime.block_on(hand_over(&mut halted));
        entered.read_exact(&mut [0]).expect("the writer thread comes to it");
        (Halt { release }, halted)
    }

    fn end(mut self) {
        self.release.write_all(b"r").expect("the writer thread waits for it");
    }
}

/// Polls once, by which a write is handed to the writer thread.
async fn hand_over(future: &mut (impl Future + Unpin)) {
    poll_fn(|context| {
        let _ = future.poll_unpin(context);
        Poll::Ready(())
    })
    .await;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime can be made")
}

/// New images, each other than all before.
fn images() -> impl FnMut() -> Image {
    let mut next = 0;
    move || {
        next += 1;
        Image::new(next)
    }
}

fn alone(rounds: u32) -> Case {
    let (store, mut image) = (Store::new(CacheOptions::default()), images());
    let case = Case::new("group commit/1 push", rounds, move || {
        let image = image();
        store.metadata.write_blocking(move |tx| image.write(tx)).expect("the disk takes it");
    });
    Case { counted: COMMIT, ..case }
}

fn together(rounds: u32) -> Case {
    let (store, mut image, runtime) = (Store::new(CacheOptions::default()), images(), runtime());
    let case = Case::new("group commit/16 pushes", rounds, move || {
        let (halt, halted) = Halt::begin(&store.metadata, &runtime);
        let writes = (0..16).map(|_| {
            let image = image();
            store.metadata.write(move |tx| image.write(tx))
        });
        let mut writes = join_all(writes);
        runtime.block_on(hand_over(&mut writes));
        halt.end();
        let written = runtime.block_on(async {
            halted.await;
            writes.await
        });
        written.into_iter().collect::<Result<(), Error>>().expect("the disk takes it");
    });
    Case { counted: COMMIT, ..case }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![alone(32), together(8)]
}
