//! Pages of lists that get ever longer: of tags, of repositories, and of what refers to a manifest.

use std::fs;
use std::path::Path;

use crate::comparison::{Amount, Comparison, Contender};
use crate::filling;
use crate::load::{Connection, Request, Turn, Until, closed};
use crate::measured::Measured;
use crate::processors::Processors;
use crate::program::Program;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;

/// How many places of a list are asked for in turn.
const PLACES: u64 = 1_000;

/// A list as it is asked for.
struct List<'a> {
    /// The path of its pages.
    path: String,
    /// How many items it has.
    number: u64,
    /// The item with a number.
    item: &'a dyn Fn(u64) -> String,
}

/// Where in the list the pages are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Anywhere,
}

/// Measures lists of all kinds.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let (server, load) = Processors::apart();
    let on = On { setting, server, load };
    on.tags(report);
    on.catalog(report);
    on.referrers(report);
}

struct On<'a> {
    setting: &'a Setting,
    server: Processors,
    load: Processors,
}

impl On<'_> {
    /// How many pages a round asks for.
    fn pages(&self) -> u64 {
        self.setting.or_quick(1_000, 50)
    }

    fn tags(&self, report: &mut Report) {
        let sizes: Vec<u64> =
            self.setting.or_quick(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000, 10_000]);
        let item = |number| filling::tag(number).to_string();
        let lists: Vec<List<'_>> = sizes
            .iter()
            .map(|number| List { path: "/v2/many/tags/tags/list".to_owned(), number: *number, item: &item })
            .collect();
        let servers: Vec<Vec<Program>> = sizes
            .iter()
            .map(|number| {
                let own = Program::orlop_at(&filling::tags(self.setting, *number), &[], &self.server);
                let peer = (*number <= 10_000).then(|| {
                    self.docker_registry(|repositories| {
                        (0..*number).for_each(|at| write_tag(repositories, "many/tags", &item(at)));
                    })
                });
                std::iter::once(own).chain(peer).collect()
            })
            .collect();
        let mut worst: f64 = 0.0;
        for (length, place) in
            [(100, Place::First), (100, Place::Anywhere), (1_000, Place::First), (1_000, Place::Anywhere)]
        {
            let title = format!("A page of {length} tags, {}", place.spoken());
            worst = worst.max(self.grow(
                report,
                &title,
                "tags in the repository",
                &lists,
                &servers,
                length,
                place,
            ));
        }
        report.note(
            "docker-registry 2.8 answers with all tags whatever page is asked for; the tags of it were written as files.",
        );
        let (work, against) = ("a page of tags of 1,000,000, the worst of these", "the same of 1,000");
        report.reach(work, against, Wanted::AtMost(1.5), worst, "×");
    }

    fn catalog(&self, report: &mut Report) {
        let sizes: Vec<u64> = self.setting.or_quick(vec![1_000, 10_000, 100_000], vec![1_000, 10_000]);
        let lists: Vec<List<'_>> = sizes
            .iter()
            .map(|number| List {
                path: "/v2/_catalog".to_owned(),
                number: *number,
                item: &filling::repository_name,
            })
            .collect();
        let servers: Vec<Vec<Program>> = sizes
            .iter()
            .map(|number| {
                let own = Program::orlop_at(&filling::repositories(self.setting, *number), &[], &self.server);
                let peer = (*number <= 1_000).then(|| {
                    self.docker_registry(|repositories| {
                        (0..*number)
                            .for_each(|at| write_tag(repositories, &filling::repository_name(at), "latest"));
                    })
                });
                std::iter::once(own).chain(peer).collect()
            })
            .collect();
        let mut worst: f64 = 0.0;
        for place in [Place::First, Place::Anywhere] {
            let title = format!("A page of 100 repositories, {}", place.spoken());
            worst = worst.max(self.grow(report, &title, "repositories", &lists, &servers, 100, place));
        }
        let (work, against) = ("a page of the catalog of 100,000, the worse of these", "the same of 1,000");
        report.reach(work, against, Wanted::AtMost(1.5), worst, "×");
    }

    fn referrers(&self, report: &mut Report) {
        let sizes: Vec<u64> = self.setting.or_quick(vec![10, 100, 1_000, 10_000], vec![10, 100]);
        let server = Program::orlop_at(&filling::referrers(self.setting, &sizes), &[], &self.server);
        let mut comparison = Comparison::new("What refers to a manifest", "referrers", Amount::Times);
        let requests: Vec<[Request; 1]> = sizes
            .iter()
            .map(|number| {
                let target = format!("/v2/{}/referrers/{}", filling::referred(*number), filling::subject());
                [Request::new("GET", &target, &[], &[])]
            })
            .collect();
        let contenders = requests.iter().map(|requests| {
            vec![Contender::new("orlop", |_| self.ask(&server, requests, self.pages().min(200)))]
        });
        comparison.grow(self.setting.rounds, sizes.iter().map(|size| point(*size)).zip(contenders).collect());
        report.add(&comparison);
        report.note(
            "A page of referrers is as long as 4 MiB allow, so that 10,000 of them are one answer too.",
        );
    }

    /// Lets each server answer for pages of its list, all sizes in turn, and returns how many times as long the longest list's take
    /// as the shortest's.
    #[expect(clippy::too_many_arguments, reason = "they are what a comparison is made of")]
    fn grow(
        &self,
        report: &mut Report,
        title: &str,
        axis: &str,
        lists: &[List<'_>],
        servers: &[Vec<Program>],
        length: u64,
        place: Place,
    ) -> f64 {
        let requests: Vec<Vec<Request>> = lists.iter().map(|list| list.requests(length, place)).collect();
        let mut comparison = Comparison::new(title, axis, Amount::Times);
        let points = lists.iter().zip(servers).zip(&requests).map(|((list, servers), requests)| {
            let contenders = servers.iter().enumerate().map(|(who, server)| {
                // A peer reads its whole list for each page.
                let pages = if who == 0 { self.pages() } else { self.pages() / 20 };
                Contender::new(server.name(), move |_| self.ask(server, requests, pages))
            });
            (point(list.number), contenders.collect())
        });
        comparison.grow(self.setting.rounds, points.collect());
        let summary = report.add(&comparison);
        let [first, last] = [lists.first(), lists.last()].map(|list| {
            let list = list.expect("there are some");
            summary.of(&point(list.number).1, "orlop").middle
        });
        last / first
    }

    /// One client that asks for these pages in turn.
    fn ask(&self, server: &Program, requests: &[Request], pages: u64) -> Measured {
        let before = server.cpu();
        let measured = closed(
            server.address(),
            1,
            Until::Each(pages),
            &self.load,
            async |connection: &mut Connection, turn: Turn| {
                let request = &requests[usize::try_from(turn.number).expect("it is small") % requests.len()];
                let (status, length) = connection.exchange(request).await;
                assert!(status == 200 && length > 0, "{status}: {}", server.name());
            },
        );
        let server_cpu = server.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
        Measured { server_cpu, peak_memory: server.memory(), ..measured }
    }

    /// Debian's registry with what `write` puts into its folder of repositories.
    fn docker_registry(&self, write: impl FnOnce(&Path)) -> Program {
        let server = Program::docker_registry(self.setting, &self.server);
        let folder = server.folder().expect("it has its own");
        write(&folder.join("store/docker/registry/v2/repositories"));
        server
    }
}

impl Place {
    fn spoken(self) -> &'static str {
        match self {
            Place::First => "the first",
            Place::Anywhere => "anywhere in the list",
        }
    }
}

impl List<'_> {
    /// The pages that are asked for: the first one, or many all over the list.
    fn requests(&self, length: u64, place: Place) -> Vec<Request> {
        let targets = match place {
            Place::First => vec![format!("{}?n={length}", self.path)],
            Place::Anywhere => {
                let last = self.number.saturating_sub(length).max(1);
                // In no order: each is far from the one before.
                let places = (0..PLACES).map(|at| (at * 619 % PLACES) * last / PLACES);
                places
                    .map(|at| {
                        format!("{}?n={length}&last={}", self.path, (self.item)(at).replace('/', "%2F"))
                    })
                    .collect()
            }
        };
        targets.iter().map(|target| Request::new("GET", target, &[], &[])).collect()
    }
}

/// A size on the axis.
#[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
pub(crate) fn point(size: u64) -> (f64, String) {
    let digits = size.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    (size as f64, groups.join(","))
}

/// Writes a tag as Debian's registry keeps it.
fn write_tag(repositories: &Path, repository: &str, tag: &str) {
    let repository = repositories.join(repository);
    let manifests = repository.join("_manifests");
    // By this it knows a repository.
    fs::create_dir_all(repository.join("_layers")).expect("a folder can be made");
    let digest = filling::subject();
    let hex = digest.to_string().split_off("sha256:".len());
    for link in [
        format!("tags/{tag}/current/link"),
        format!("tags/{tag}/index/sha256/{hex}/link"),
        format!("revisions/sha256/{hex}/link"),
    ] {
        let link = manifests.join(link);
        fs::create_dir_all(link.parent().expect("it has one")).expect("a folder can be made");
        fs::write(link, digest.to_string()).expect("a file can be written");
    }
}
