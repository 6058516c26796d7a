//! The Rust peer of bench_identity.py: std's HashMap, which is hashbrown, from a 64-bit hash of the text to a place, and
//! union-find over places. `fx` hashes texts as FxHash does, `sip` with std's own SipHash-1-3. It knows no explanation and
//! no undo.
use std::collections::{hash_map::Entry, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::io::{BufRead, Write};

// ---- the workload: ../../peer_cpp/workload.h ----

const TEXT: usize = 36;
type Text = [u8; TEXT];

struct Work {
    state: u64,
    users: u64,
    anonymous: u64,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
    z ^ (z >> 31)
}

impl Work {
    fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e3779b97f4a7c15);
        mix(self.state)
    }

    fn zipf(&mut self, n: u64) -> u64 {
        let u = (self.any() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = ((u * (n as f64 + 1.0).ln()).exp() as u64 - 1).min(n - 1);
        let power = 1u64 << (63 - n.leading_zeros());
        if rank < power { rank.wrapping_mul(0x9e3779b1) & (power - 1) } else { rank }
    }

    fn next(&mut self, user: &mut Text, anonymous: &mut Text) -> bool {
        if self.users == 0 || self.any() % 10 < 3 {
            let index = if self.users == 0 || self.any() & 1 == 1 {
                self.users += 1;
                self.users - 1
            } else {
                self.zipf(self.users)
            };
            text(user, index, true);
            text(anonymous, self.anonymous, false);
            self.anonymous += 1;
            return true;
        }
        let is_user = self.any() & 1 == 1;
        let index = self.zipf(if is_user { self.users } else { self.anonymous });
        text(user, index, is_user);
        false
    }

    fn uniform(&mut self, out: &mut Text) {
        let index = self.any() % (self.users + self.anonymous);
        let is_user = index < self.users;
        text(out, if is_user { index } else { index - self.users }, is_user);
    }
}

fn text(out: &mut Text, index: u64, is_user: bool) {
    let first = mix(2 * index + is_user as u64 + 1);
    let half = [first, mix(first.wrapping_add(0x9e3779b97f4a7c15))];
    let mut at = 0;
    for i in 0..32 {
        if matches!(i, 8 | 12 | 16 | 20) {
            out[at] = b'-';
            at += 1;
        }
        out[at] = b"0123456789abcdef"[(half[i >> 4] >> (4 * (i & 15)) & 15) as usize];
        at += 1;
    }
}

// ---- the engine ----

/// What is hashed already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = v.wrapping_mul(0x9e3779b97f4a7c15);
    }
}

fn fx(text: &Text) -> u64 {
    let add = |h: u64, word: u64| (h.rotate_left(5) ^ word).wrapping_mul(0x517cc1b727220a95);
    let h = text[..32].chunks_exact(8).fold(0, |h, word| add(h, u64::from_le_bytes(word.try_into().unwrap())));
    mix(add(h, u32::from_le_bytes(text[32..].try_into().unwrap()) as u64))
}

struct Id {
    actor: u64,
    parent: u32,
    next: u32,
    size: u32,
}

struct Graph<H: Fn(&Text) -> u64> {
    hash: H,
    places: HashMap<u64, u32, BuildHasherDefault<Same>>,
    ids: Vec<Id>,
    joins: u64,
}

impl<H: Fn(&Text) -> u64> Graph<H> {
    fn root(&mut self, mut at: u32) -> u32 {
        while self.ids[at as usize].parent != at {
            let above = self.ids[at as usize].parent;
            at = self.ids[above as usize].parent;
            self.ids[above as usize].parent = self.ids[at as usize].parent;
        }
        at
    }

    fn enter(&mut self, text: &Text) -> u32 {
        let actor = (self.hash)(text);
        let place = self.ids.len() as u32;
        match self.places.entry(actor) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                free.insert(place);
                self.ids.push(Id { actor, parent: place, next: place, size: 1 });
                place
            }
        }
    }

    fn link(&mut self, user: &Text, anonymous: &Text) {
        let (one, other) = (self.enter(user), self.enter(anonymous));
        let (mut a, mut b) = (self.root(one), self.root(other));
        if a == b {
            return;
        }
        if self.ids[a as usize].size < self.ids[b as usize].size {
            std::mem::swap(&mut a, &mut b);
        }
        self.ids[b as usize].parent = a;
        self.ids[a as usize].size += self.ids[b as usize].size;
        let next = self.ids[a as usize].next;
        self.ids[a as usize].next = self.ids[b as usize].next;
        self.ids[b as usize].next = next;
        self.joins += 1;
    }

    fn person(&mut self, text: &Text) -> u64 {
        let actor = (self.hash)(text);
        match self.places.get(&actor).copied() {
            Some(place) => {
                let root = self.root(place);
                self.ids[root as usize].actor
            }
            None => actor,
        }
    }
}

// ---- the clock, the memory, and who asks ----

#[repr(C)]
struct Timespec {
    s: i64,
    ns: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, out: *mut Timespec) -> i32;
}

fn now() -> u64 {
    let mut t = Timespec { s: 0, ns: 0 };
    unsafe { clock_gettime(2, &mut t) }; // the processor time of the process
    t.s as u64 * 1_000_000_000 + t.ns as u64
}

fn resident() -> u64 {
    let said = std::fs::read_to_string("/proc/self/statm").unwrap();
    said.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn serve<H: Fn(&Text) -> u64>(hash: H) {
    let mut graph = Graph { hash, places: HashMap::default(), ids: Vec::new(), joins: 0 };
    let mut work = Work { state: 1, users: 0, anonymous: 0 };
    let mut chunk = vec![([0u8; TEXT], [0u8; TEXT], false); 1000];
    let (before, mut all) = (resident(), 0u64);
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (what, count) = line.split_once(' ').unwrap();
        let (count, step) = (count.parse::<usize>().unwrap(), if what == "grow" { 1000 } else { 256 });
        let (mut total, mut worst) = (0, 0);
        for _ in (0..count).step_by(step) {
            for (user, anonymous, is_link) in &mut chunk[..step] {
                *is_link = what == "grow" && work.next(user, anonymous);
                if what != "grow" {
                    work.uniform(user);
                }
            }
            let start = now();
            for (user, anonymous, is_link) in &chunk[..step] {
                if *is_link {
                    graph.link(user, anonymous);
                } else {
                    all = all.wrapping_add(graph.person(user));
                }
            }
            let took = now() - start;
            total += took;
            worst = worst.max(took);
        }
        let bytes = resident() - before;
        println!("{} {} {} {} {} {}", total, worst, graph.ids.len(), graph.joins, bytes, all & 1);
        std::io::stdout().flush().unwrap();
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("sip") {
        let keyed = RandomState::new();
        serve(move |text| {
            let mut hasher = keyed.build_hasher();
            hasher.write(text);
            hasher.finish()
        });
    } else {
        serve(fx);
    }
}
