//! Short scripts of clients, of the collection and of time, in every order in which their steps can come.
//!
//! Each order runs on a registry of its own, with the real transactions and a simulated disk. After each step everything
//! that anybody was told has to be true for as long as it was told; in the end rows, references and files have to agree, and
//! what the tags lead to has to be all there is.
//!
//! `INTERLEAVINGS` chooses how many orders of each scene are run, evenly spread; 0 for all of them.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

#[path = "interleavings/order.rs"]
mod order;
#[path = "collection/store.rs"]
mod store;
#[path = "interleavings/world.rs"]
mod world;

use std::time::Duration;

use order::orders;
use store::{HELD, LEASE, MINUTE};
use world::Step::{
    Begin, Collect, CollectAll, DeleteBlob, DeleteImage, DeleteRepository, DeleteTag, Finish, Head,
    HeadImage, Image, Index, Mount, Pass, Push, Restart, UndeleteImage, UndeleteRepository, UndeleteTag,
};
use world::{Picture, Step, World, about, of};

const SECOND: Duration = Duration::from_secs(1);
/// How long the scenes with an undo window have it.
const UNDO: Duration = MINUTE;
/// Just within the lease of what was told at the beginning.
const WITHIN: Duration = LEASE.saturating_sub(SECOND);

const ONE: Picture = of(&["x", "one"]);
const TWO: Picture = of(&["x", "two"]);

/// Runs a scene: `before`, and then the scripts in every order.
fn run(undo: Duration, before: &[Step], scripts: &[&[Step]]) {
    let most = std::env::var("INTERLEAVINGS").ok().map_or(40, |value| value.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lengths: Vec<usize> = scripts.iter().map(|script| script.len()).collect();
    let orders = orders(&lengths, most);
    assert!(!orders.is_empty());
    for order in &orders {
        let steps: Vec<Step> = order.iter().map(|(script, place)| scripts[*script][*place]).collect();
        let outcome = runtime.block_on(async {
            let mut world = World::new(undo);
            for step in before.iter().chain(&steps) {
                world.step(*step).await.map_err(|wrong| format!("{wrong}\n  after {step:?}"))?;
            }
            world.finish().await
        });
        if let Err(wrong) = outcome {
            panic!("{wrong}\n  in this order: {steps:#?}");
        }
    }
    report(orders.len());
}

#[expect(clippy::print_stdout, reason = "the number says what was tested")]
fn report(orders: usize) {
    println!("{orders} orders");
}

#[test]
fn a_layer_that_head_has_found_while_its_image_is_deleted() {
    run(
        Duration::ZERO,
        &[Push("app", "x"), Push("app", "one"), Push("app", "two"), Image("app", ONE, Some("v1"))],
        &[
            &[Head("app", "x"), Head("app", "two"), Image("app", TWO, Some("v2"))],
            &[DeleteImage("app", ONE)],
            &[Collect, Collect],
            &[Pass(HELD), Pass(WITHIN)],
        ],
    );
}

#[test]
fn a_layer_that_is_mounted_while_it_is_deleted_where_it_was() {
    run(
        Duration::ZERO,
        &[Push("a", "x")],
        &[
            &[Mount("b", "a", "x"), Push("b", "one"), Image("b", ONE, Some("v1"))],
            &[DeleteBlob("a", "x")],
            &[Collect, Collect],
            &[Pass(HELD), Pass(WITHIN)],
        ],
    );
}

#[test]
fn a_layer_that_two_push_while_it_goes() {
    run(
        Duration::ZERO,
        &[Push("c", "x"), DeleteBlob("c", "x"), Push("a", "one")],
        &[
            &[Push("a", "x"), Head("a", "one"), Image("a", ONE, Some("v1"))],
            &[Push("b", "x"), DeleteBlob("b", "x")],
            &[Collect, Collect],
            &[Pass(HELD)],
        ],
    );
}

#[test]
fn an_upload_that_goes_on_while_its_blob_comes_and_goes_elsewhere() {
    run(
        Duration::ZERO,
        &[Push("a", "one")],
        &[
            &[Begin("a", "x"), Finish("a", "x"), Head("a", "one"), Image("a", ONE, Some("v1"))],
            &[Push("b", "x"), DeleteBlob("b", "x")],
            &[Collect, Collect],
            &[Pass(HELD)],
        ],
    );
}

#[test]
fn a_first_layer_that_waits_for_the_upload_of_the_second() {
    // The upload begins within the lease, so that the first layer is there a lease after its end.
    run(
        Duration::ZERO,
        &[Push("a", "one"), Begin("a", "x"), Pass(WITHIN), Collect],
        &[
            &[Finish("a", "x"), Head("a", "one"), Image("a", ONE, Some("v1"))],
            &[Push("a", "two"), Head("a", "x"), Image("a", TWO, Some("v2"))],
            &[Collect, Collect],
            &[Pass(WITHIN)],
        ],
    );
}

#[test]
fn an_image_that_is_deleted_and_undeleted_while_its_tag_is_taken() {
    run(
        UNDO,
        &[Push("app", "x"), Push("app", "one"), Push("app", "two"), Image("app", ONE, Some("v1"))],
        &[
            &[DeleteImage("app", ONE), UndeleteImage("app", ONE)],
            &[Head("app", "x"), Head("app", "two"), Image("app", TWO, Some("v1"))],
            &[Collect, Collect],
            &[Pass(UNDO), Pass(HELD)],
        ],
    );
}

#[test]
fn a_tag_that_is_deleted_and_undeleted_while_its_image_is_deleted() {
    run(
        UNDO,
        &[Push("app", "x"), Push("app", "one"), Image("app", ONE, Some("v1"))],
        &[
            &[DeleteTag("app", "v1"), UndeleteTag("app", "v1")],
            &[DeleteImage("app", ONE)],
            &[CollectAll, Collect],
            &[Pass(UNDO), Pass(HELD)],
        ],
    );
}

#[test]
fn a_repository_that_is_deleted_and_undeleted_while_somebody_pushes_to_its_name() {
    run(
        UNDO,
        &[Push("app", "x"), Push("app", "one"), Image("app", ONE, Some("v1"))],
        &[
            &[DeleteRepository("app"), UndeleteRepository("app")],
            &[Mount("other", "app", "x"), Push("other", "two"), Image("other", TWO, Some("v2"))],
            &[CollectAll, Collect],
            &[Pass(UNDO)],
        ],
    );
}

#[test]
fn a_referrer_that_comes_while_its_subject_goes_and_comes() {
    const REFERRER: Picture = about(&["note"], ONE);
    run(
        Duration::ZERO,
        &[Push("app", "x"), Push("app", "one"), Image("app", ONE, Some("v1")), Pass(SECOND)],
        &[
            &[DeleteImage("app", ONE), Pass(SECOND), HeadImage("app", ONE)],
            &[Push("app", "note"), Image("app", REFERRER, None)],
            &[CollectAll],
            &[Pass(HELD)],
        ],
    );
}

#[test]
fn an_image_without_a_tag_that_an_index_takes_up() {
    run(
        Duration::ZERO,
        &[Push("app", "x"), Push("app", "one"), Image("app", ONE, Some("v1"))],
        &[
            &[HeadImage("app", ONE), Index("app", ONE, "multi")],
            &[DeleteTag("app", "v1")],
            &[CollectAll, Collect],
            &[Pass(HELD), Pass(WITHIN)],
        ],
    );
}

#[test]
fn an_index_that_is_deleted_and_undeleted_while_its_image_is_deleted() {
    run(
        UNDO,
        &[Push("app", "x"), Push("app", "one"), Image("app", ONE, None), Index("app", ONE, "multi")],
        &[
            &[DeleteTag("app", "multi"), UndeleteTag("app", "multi")],
            &[DeleteImage("app", ONE), UndeleteImage("app", ONE)],
            &[CollectAll, Collect],
            &[Pass(UNDO), Pass(HELD)],
        ],
    );
}

#[test]
fn a_push_that_goes_on_after_a_restart() {
    run(
        UNDO,
        &[Push("a", "x"), Push("a", "one"), Image("a", ONE, Some("v1"))],
        &[
            &[Head("a", "x"), Push("a", "two"), Image("a", TWO, Some("v2"))],
            &[DeleteImage("a", ONE), UndeleteImage("a", ONE)],
            &[Collect, Restart],
            &[Pass(HELD)],
        ],
    );
}
