//! Bytes from outside: refused, or a placement that is written as it was read and answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackbeam_consistent_hash::{
    Anchor, Members, MultiProbe, NodeIx, Placement, Rendezvous, Ring, SlotTable,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fuzz_target!(|input: &[u8]| {
    check(input);
    // With a header that is right, so that what is behind it is reached.
    let Some((kind, payload)) = input.split_first() else {
        return;
    };
    let mut bytes = b"SBPL\x01\0".to_vec();
    bytes.extend([kind % 6, 0]);
    let sum = xxh3_64_with_seed(payload, xxh3_64(&bytes));
    bytes.extend(sum.to_le_bytes());
    bytes.extend(payload);
    check(&bytes);
});

fn check(bytes: &[u8]) {
    if let Ok(members) = Members::from_bytes(bytes) {
        assert_eq!(members.to_bytes(), bytes);
    }
    macro_rules! placements {
        ($($kind:ty),*) => {$(
            if let Ok(placement) = <$kind>::from_bytes(bytes) {
                assert_eq!(placement.to_bytes(), bytes);
                answers(&placement);
            }
        )*};
    }
    placements!(Ring, Rendezvous, SlotTable, MultiProbe, Anchor);
}

fn answers(placement: &dyn Placement) {
    for hash in [0, 1 << 63, u64::MAX, xxh3_64(b"key")] {
        let mut out = [NodeIx::default(); 3];
        let count = placement.owners(hash, &mut out);
        assert!(count >= 1 && out[0] == placement.owner(hash));
        assert!(out[..count].iter().all(|node| node.index() < placement.node_count()));
    }
}
