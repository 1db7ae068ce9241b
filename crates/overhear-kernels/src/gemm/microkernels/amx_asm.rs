//! Assembly of the AMX microkernel, as macros over the names of tile registers.
//!
//! tmm0 to tmm3 are accumulators, tmm4 and tmm5 tiles of A, tmm6 and tmm7 tiles of B. A 2x2 block has tmm0 and tmm1
//! in the left half of the panel (rows 0 and 16), tmm2 and tmm3 in the right half; pair 0 is tmm0 and tmm1, pair 1 is
//! tmm2 and tmm3.

/// Expands `$body` with the accumulator tiles of pair `$pair`.
macro_rules! with_pair {
    ($pair:ident, $body:ident $(, $argument:expr)*) => {
        if $pair == 0 {
            $body!("tmm0", "tmm1" $(, $argument)*)
        } else {
            $body!("tmm2", "tmm3" $(, $argument)*)
        }
    };
}

macro_rules! zero {
    ($first:literal, $second:literal) => {
        asm!(
            concat!("tilezero ", $first),
            concat!("tilezero ", $second),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem)
        )
    };
}

macro_rules! load {
    ($first:literal, $second:literal, $from:expr) => {
        asm!(
            concat!("tileloadd ", $first, ", [{first} + {stride}]"),
            concat!("tileloadd ", $second, ", [{second} + {stride}]"),
            first = in(reg) $from.first,
            second = in(reg) $from.second,
            stride = in(reg) 4 * NR,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, readonly)
        )
    };
}

macro_rules! store {
    ($first:literal, $second:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{first} + {stride}], ", $first),
            concat!("tilestored [{second} + {stride}], ", $second),
            first = in(reg) $to.first,
            second = in(reg) $to.second,
            stride = in(reg) 4 * NR,
            options(nostack)
        )
    };
}

/// Loop of `$steps.n` steps of the instructions `$line`; each step advances the second tile's operand by `$of_second`
/// bytes.
macro_rules! walk {
    ($steps:expr, $of_second:literal, $($line:expr),+) => {
        asm!(
            "2:",
            $($line,)+
            "add {x}, {x_step}",
            "add {w}, 1024",
            concat!("add {second}, ", $of_second),
            "dec {n}",
            "jnz 2b",
            x = inout(reg) $steps.x => _,
            w = inout(reg) $steps.w => _,
            second = inout(reg) $steps.second => _,
            x_stride = in(reg) 4 * $steps.x_stride,
            x_step = in(reg) 4 * $steps.x_step,
            line = in(reg) 4 * LANES,
            n = inout(reg) $steps.n => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly)
        )
    };
}

/// Loop over steps of a pair with the tile product `$dot`: two tiles of A by one of B (2x1), or one by two (1x2).
macro_rules! add {
    ($first:literal, $second:literal, $dot:literal, $steps:expr) => {
        if IS_2X1 {
            walk!(
                $steps,
                "{x_step}",
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm4, [{x} + {x_stride}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm5, [{second} + {x_stride}]",
                concat!($dot, " ", $second, ", tmm5, tmm6")
            )
        } else {
            walk!(
                $steps,
                "1024",
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {line}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm7, [{second} + {line}]",
                concat!($dot, " ", $second, ", tmm4, tmm7")
            )
        }
    };
}

/// One step of a pair, given as `$line`s that also store the other pair's tiles.
macro_rules! step_and_store {
    ($steps:expr, $to:expr, $($line:expr),+) => {
        asm!(
            $($line,)+
            x = in(reg) $steps.x,
            w = in(reg) $steps.w,
            second = in(reg) $steps.second,
            x_stride = in(reg) 4 * $steps.x_stride,
            line = in(reg) 4 * LANES,
            first_to = in(reg) $to.first,
            second_to = in(reg) $to.second,
            to_stride = in(reg) 4 * NR,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

macro_rules! add_and_store {
    ($first:literal, $second:literal, $other:literal, $after:literal, $dot:literal, $steps:expr, $to:expr) => {
        if IS_2X1 {
            step_and_store!(
                $steps,
                $to,
                concat!("tilestored [{first_to} + {to_stride}], ", $other),
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm4, [{x} + {x_stride}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm5, [{second} + {x_stride}]",
                concat!("tilestored [{second_to} + {to_stride}], ", $after),
                concat!($dot, " ", $second, ", tmm5, tmm6")
            )
        } else {
            step_and_store!(
                $steps,
                $to,
                concat!("tilestored [{first_to} + {to_stride}], ", $other),
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {line}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm7, [{second} + {line}]",
                concat!("tilestored [{second_to} + {to_stride}], ", $after),
                concat!($dot, " ", $second, ", tmm4, tmm7")
            )
        }
    };
}

/// One step of a 2x2 block with the tile product `$dot`, and an instruction before each of its four products.
/// Operands are loaded by `tileloadd` or, if they are not reused soon, by `tileloaddt1`, which does not evict others
/// from L1.
macro_rules! step_2x2 {
    (
        $dot:literal, $of_x:literal, $of_w:literal, $step:expr,
        [$before:literal, $before_lower:literal, $before_right:literal, $before_last:literal]
        $(, $name:ident = $place:expr)*
    ) => {
        asm!(
            concat!("tileload", $of_w, " tmm6, [{w} + {line}]"),
            concat!("tileload", $of_x, " tmm4, [{x} + {x_stride}]"),
            $before,
            concat!($dot, " tmm0, tmm4, tmm6"),
            concat!("tileload", $of_x, " tmm5, [{x_lower} + {x_stride}]"),
            $before_lower,
            concat!($dot, " tmm1, tmm5, tmm6"),
            concat!("tileload", $of_w, " tmm7, [{w_right} + {line}]"),
            $before_right,
            concat!($dot, " tmm2, tmm4, tmm7"),
            $before_last,
            concat!($dot, " tmm3, tmm5, tmm7"),
            x = in(reg) $step.x,
            x_lower = in(reg) $step.x_lower,
            x_stride = in(reg) 4 * $step.x_stride,
            w = in(reg) $step.w,
            w_right = in(reg) $step.w_right,
            line = in(reg) 4 * LANES,
            $($name = in(reg) $place,)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// First step of a 2x2 block, see [`TileKernel::begin_2x2`](crate::gemm::tile_kernel::TileKernel::begin_2x2). A row
/// of accumulators is 128 bytes, 16 rows are 2048.
macro_rules! begin_2x2 {
    ($dot:literal, $of_x:literal, $of_w:literal, $step:expr, $from:expr, $last:expr) => {
        match ($from, $last) {
            (None, None) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"]
            ),
            (None, Some(last)) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tilestored [{last} + {row}], tmm0\n tilezero tmm0",
                    "tilestored [{last} + {row} + 2048], tmm1\n tilezero tmm1",
                    "tilestored [{last} + {row} + 64], tmm2\n tilezero tmm2",
                    "tilestored [{last} + {row} + 2112], tmm3\n tilezero tmm3"
                ],
                last = last, row = 4 * NR
            ),
            (Some(from), None) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tileloadd tmm0, [{from} + {row}]",
                    "tileloadd tmm1, [{from} + {row} + 2048]",
                    "tileloadd tmm2, [{from} + {row} + 64]",
                    "tileloadd tmm3, [{from} + {row} + 2112]"
                ],
                from = from, row = 4 * NR
            ),
            (Some(from), Some(last)) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tilestored [{last} + {row}], tmm0\n tileloadd tmm0, [{from} + {row}]",
                    "tilestored [{last} + {row} + 2048], tmm1\n tileloadd tmm1, [{from} + {row} + 2048]",
                    "tilestored [{last} + {row} + 64], tmm2\n tileloadd tmm2, [{from} + {row} + 64]",
                    "tilestored [{last} + {row} + 2112], tmm3\n tileloadd tmm3, [{from} + {row} + 2112]"
                ],
                from = from, last = last, row = 4 * NR
            ),
        }
    };
}

pub(super) use {
    add, add_and_store, begin_2x2, load, step_2x2, step_and_store, store, walk, with_pair, zero,
};
