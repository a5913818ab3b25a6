//! One piece of work, once, for callgrind to count its instructions: `cargo xtask bench instructions`.

mod worlds;

use worlds::{SIZES, WORK, Work, World};

/// What is counted: valgrind is told to collect in here.
#[inline(never)]
fn counted(work: Work, world: &World) {
    work(world);
}

#[expect(clippy::expect_used, reason = "xtask asks for what was listed")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, size] = arguments.as_slice() else {
        // What can be asked for.
        for (name, _) in WORK {
            SIZES.iter().for_each(|size| println!("{name} {size}"));
        }
        return;
    };
    let (_, work) = WORK.into_iter().find(|(known, _)| known == name).expect("one of the names");
    counted(work, &World::of(size.parse().expect("a number")));
}
