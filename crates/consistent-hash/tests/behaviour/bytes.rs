//! Bytes that come back as what they were, and bytes that nothing wrote.

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    Anchor, DecodeError, Member, MemberId, MemberState, Members, MultiProbe, NodeIx, Rendezvous,
    Ring, SlotTable,
};

use crate::names;

fn members() -> impl Strategy<Value = Members> {
    let state = prop_oneof![
        5 => Just(MemberState::Live), 1 => Just(MemberState::Joining),
        1 => Just(MemberState::Draining), 1 => Just(MemberState::Dead),
    ];
    let weight = prop_oneof![Just(0.0), Just(1.0), 0.1..9.0_f64];
    prop::collection::btree_map(
        "[a-zé]{1,9}",
        (weight, state, "[a-z]{0,3}(/[a-z]{1,2}){0,3}"),
        0..8,
    )
    .prop_map(|all| {
        Members::new(all.into_iter().map(|(name, (weight, state, zone))| {
            Member::new(name)
                .with_weight(weight)
                .with_state(state)
                .with_zone(zone)
        }))
        .unwrap()
    })
}

/// Every kind of placement that can be built.
fn encoded(members: &Members) -> Vec<Vec<u8>> {
    let mut all = vec![members.to_bytes()];
    let tokens = members
        .iter()
        .map(|member| (member.id(), member.id().get()));
    all.extend(
        Ring::with_tokens(members, tokens)
            .map(|ring| ring.to_bytes())
            .ok(),
    );
    all.extend(
        Ring::with_points(members, 5)
            .map(|ring| ring.to_bytes())
            .ok(),
    );
    all.extend(
        Rendezvous::new(members)
            .map(|placement| placement.to_bytes())
            .ok(),
    );
    all.extend(
        SlotTable::with_slots(members, 33, 0.1)
            .map(|table| table.to_bytes())
            .ok(),
    );
    all.extend(
        MultiProbe::new(members)
            .map(|placement| placement.to_bytes())
            .ok(),
    );
    let mut anchor = Anchor::with_capacity(7, 9).unwrap();
    anchor.add().unwrap();
    anchor.remove(NodeIx::new(3)).unwrap();
    all.push(anchor.to_bytes());
    all
}

/// What these bytes are read as, and written as again.
fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    [
        Members::from_bytes(bytes).map(|x| x.to_bytes()),
        Ring::from_bytes(bytes).map(|x| x.to_bytes()),
        Rendezvous::from_bytes(bytes).map(|x| x.to_bytes()),
        SlotTable::from_bytes(bytes).map(|x| x.to_bytes()),
        MultiProbe::from_bytes(bytes).map(|x| x.to_bytes()),
        Anchor::from_bytes(bytes).map(|x| x.to_bytes()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Damaged bytes with a fingerprint that is right again, so that what is behind it is reached.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 16 {
        let seed = xxhash_rust::xxh3::xxh3_64(&bytes[..8]);
        let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[16..], seed);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(members in members()) {
        prop_assert_eq!(&Members::from_bytes(&members.to_bytes()).unwrap(), &members);
        for bytes in encoded(&members) {
            prop_assert_eq!(read(&bytes), vec![bytes.clone()]);
        }
        if let Ok(ring) = Ring::with_points(&members, 9) {
            let again = Ring::from_bytes(&ring.to_bytes()).unwrap();
            prop_assert_eq!(again.fingerprint(), ring.fingerprint());
            prop_assert_eq!(again, ring);
        }
        if let Ok(table) = SlotTable::with_slots(&members, 65, 0.0) {
            prop_assert_eq!(SlotTable::from_bytes(&table.to_bytes()).unwrap(), table);
        }
    }

    #[test]
    fn damaged_bytes_are_refused(
        members in members(), which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>(),
    ) {
        let all = encoded(&members);
        let bytes = &all[which.index(all.len())];
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= flip;
        prop_assert!(read(&damaged).is_empty());
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_empty());
        prop_assert!(read(&[bytes.as_slice(), &[0]].concat()).is_empty());
    }

    #[test]
    fn what_is_damaged_and_sealed_is_refused_or_a_placement_of_its_own(
        members in members(), which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let all = encoded(&members);
        let mut bytes = all[which.index(all.len())].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let bytes = sealed(bytes);
        for again in read(&bytes) {
            prop_assert_eq!(&again, &bytes);
        }
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&noise).is_empty());
        let header = [b"SBPL\x01\0\x03\0\0\0\0\0\0\0\0\0".as_slice(), &noise].concat();
        prop_assert!(read(&sealed(header)).len() <= 1);
    }
}

#[test]
fn an_error_says_what_is_wrong() {
    let bytes = names(3).to_bytes();
    let error = |bytes: &[u8]| Members::from_bytes(bytes).unwrap_err();
    assert!(matches!(
        error(b"SB"),
        DecodeError::Truncated {
            field: "the header",
            ..
        }
    ));
    assert!(matches!(error(b"PNG and more"), DecodeError::NotAPlacement));
    let mut other = bytes.clone();
    other[4] = 2;
    assert_eq!(
        error(&other).to_string(),
        "format version 2; this release reads 1"
    );
    let kind = Ring::from_bytes(&bytes).unwrap_err();
    assert!(matches!(
        kind,
        DecodeError::Kind {
            found: 0,
            wanted: 2,
            ..
        }
    ));
    let mut damaged = bytes.clone();
    damaged[30] ^= 1;
    assert!(matches!(error(&damaged), DecodeError::Fingerprint { .. }));
    // Counts that promise more than there is are refused before anything is allocated for them.
    for count in [u32::MAX, 1 << 20, 4] {
        let mut long = bytes.clone();
        long[16..20].copy_from_slice(&count.to_le_bytes());
        let refused = error(&sealed(long));
        assert!(
            matches!(
                refused,
                DecodeError::Field { .. } | DecodeError::Truncated { .. }
            ),
            "{refused}"
        );
    }
    let mut anchor = Anchor::new(3).unwrap().to_bytes();
    anchor[16..20].copy_from_slice(&(1_u32 << 27).to_le_bytes());
    let refused = Anchor::from_bytes(&sealed(anchor)).unwrap_err();
    assert!(matches!(refused, DecodeError::Truncated { .. }));
}

#[test]
fn two_processes_agree_by_a_number() {
    let members = names(3);
    let bytes = members.to_bytes();
    assert_eq!(&bytes[..8], b"SBPL\x01\0\0\0");
    assert_eq!(bytes[8..16], members.fingerprint().to_le_bytes());
    let other = members
        .update(MemberId::of_name("node-1"), |m| m.with_weight(2.0))
        .unwrap();
    assert_ne!(other.fingerprint(), members.fingerprint());
}
