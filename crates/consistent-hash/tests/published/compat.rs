//! Rings and tables of other products: where their own software put keys, and this crate must.

use crate::support::{
    Case, ENVOY, File, LIBMEMCACHED, MAGLEV, NGINX, SPYMEMCACHED, cases, number, small, whole_group,
};
use serde_json::Value as Json;
use stackbeam_consistent_hash::interop::nginx::{self, PlainHash};
use stackbeam_consistent_hash::{
    BuildError, EnvoySize, Ketama, KetamaProfile, KeyHash, Maglev, MaglevProfile, Member, Members,
    NodeIx, Placement,
};

pub(crate) const CHECKS: &[fn()] = &[
    nginx_consistent_hash_is_nginx,
    nginx_plain_hash_is_nginx,
    libmemcached_ketama_is_libmemcached,
    spymemcached_ketama_is_spymemcached,
    envoy_ring_hash_is_envoy,
    maglev_of_envoy_is_envoys,
    maglev_of_katran_is_katrans,
    maglev_of_cilium_is_ciliums,
];

fn server(server: &Json) -> Member {
    let host = server["host"].as_str().unwrap();
    let name = match server["port"].as_u64() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    Member::new(name).with_weight(server["weight"].as_f64().unwrap_or(1.0))
}

fn servers(group: &Json) -> Members {
    Members::in_order(group["servers"].as_array().unwrap().iter().map(server)).unwrap()
}

fn check(file: File, name: &str, profile: KetamaProfile) {
    let group = whole_group(file, name);
    let members = servers(&group);
    let ring = Ketama::new(profile, &members).unwrap();
    for case in cases(file, name) {
        let key = case["key"].as_str().unwrap().as_bytes();
        let owner = ring.owner_of(key);
        if let Some(index) = case["server_index"].as_u64() {
            assert_eq!(owner.get(), u32::try_from(index).unwrap(), "{name} {case}");
        } else {
            let wanted = case["server"].as_str().unwrap();
            let wanted = wanted.strip_suffix(":80").unwrap_or(wanted);
            assert_eq!(members[owner].name(), wanted, "{name} {case}");
        }
        if let Some(hash) = case["key_hash"].as_u64() {
            assert_eq!(profile.hash(key) >> 32, hash);
        }
        assert_eq!(ring.tries_of(key).next(), Some(owner));
    }
}

#[test]
fn nginx_consistent_hash_is_nginx() {
    for group in [
        "live_five_equal",
        "live_weighted_four",
        "live_ipv6_member",
        "live_five_equal_minus_one",
        "live_no_explicit_port",
        "pingora_nginx_trace",
        "pingora_two_servers",
        "pingora_ten_servers",
    ] {
        check(NGINX, group, KetamaProfile::Nginx);
    }
    for case in cases(NGINX, "ring_walk") {
        let names = case["servers"].as_array().unwrap();
        let names = names.iter().map(|name| Member::new(name.as_str().unwrap()));
        let members = Members::in_order(names).unwrap();
        let ring = Ketama::new(KetamaProfile::Nginx, &members).unwrap();
        let ports = case["walk_ports"].as_array().unwrap();
        let key = case["key"].as_str().unwrap().as_bytes();
        for (port, node) in ports.iter().zip(ring.tries_of(key)) {
            let name = members[node].name();
            assert!(name.ends_with(&format!(":{port}")), "{name} {port}");
        }
    }
}

#[test]
fn nginx_plain_hash_is_nginx() {
    let name = "live_plain_hash_weighted";
    let members = servers(&whole_group(NGINX, name));
    let servers = PlainHash::new(&members).unwrap();
    for case in cases(NGINX, name) {
        let key = case["key"].as_str().unwrap().as_bytes();
        let owner = servers.owner_of(key);
        assert_eq!(members[owner].name(), case["server"].as_str().unwrap());
        assert_eq!(servers.owner(nginx::Crc32Nginx::new().hash(key)), owner);
        assert_eq!(servers.tries_of(key).next(), Some(owner));
        assert_eq!(servers.tries_of(key).count(), PlainHash::TRIES);
    }
    let light = Members::new([Member::new("a:1").with_weight(0.1)]).unwrap();
    let refused = PlainHash::new(&light).unwrap_err();
    let named = matches!(
        refused,
        BuildError::Size {
            field: "weight",
            ..
        }
    );
    assert!(named, "{refused}");
}

#[test]
fn libmemcached_ketama_is_libmemcached() {
    for group in [
        "fixture_weighted",
        "wraparound",
        "live_ketama_weighted_8",
        "live_ketama_weighted_3",
        "live_ketama_weighted_default_port_mix",
        "live_ketama_weighted_after_removal",
    ] {
        check(LIBMEMCACHED, group, KetamaProfile::LibmemcachedWeighted);
    }
    check(
        LIBMEMCACHED,
        "live_ketama_unweighted_4",
        KetamaProfile::Libmemcached,
    );
    for group in [
        "fixture_spy",
        "live_ketama_spy_weighted_8",
        "live_ketama_spy_8",
    ] {
        check(LIBMEMCACHED, group, KetamaProfile::LibmemcachedSpy);
    }
}

#[test]
fn spymemcached_ketama_is_spymemcached() {
    for group in [
        "four_nodes",
        "five_nodes",
        "libketama_compat_two",
        "libketama_compat_three",
    ] {
        check(SPYMEMCACHED, group, KetamaProfile::Spymemcached);
    }
    check(
        SPYMEMCACHED,
        "weighted_libmemcached_labels",
        KetamaProfile::SpymemcachedWeighted,
    );
    let name = "failover_sequence_four_nodes";
    let members = servers(&whole_group(SPYMEMCACHED, name));
    let ring = Ketama::new(KetamaProfile::Spymemcached, &members).unwrap();
    for case in cases(SPYMEMCACHED, name) {
        let wanted: Vec<u32> = case["sequence"]
            .as_array()
            .unwrap()
            .iter()
            .map(small)
            .collect();
        let tries = ring.tries_of(case["key"].as_str().unwrap().as_bytes());
        let tries: Vec<u32> = tries.map(NodeIx::get).take(wanted.len()).collect();
        assert_eq!(tries, wanted);
    }
}

#[test]
fn envoy_ring_hash_is_envoy() {
    for case in cases(ENVOY, "rings") {
        let hosts = case["hosts"].as_array().unwrap();
        let name = |host: &Json| host.as_str().unwrap().to_string();
        let members = Members::in_order(hosts.iter().map(|host| Member::new(name(host)))).unwrap();
        let size = number(&case["points_per_host"]) * hosts.len() as u64;
        let size = EnvoySize::new(size, EnvoySize::MAX);
        let profile = match case["hash"].as_str().unwrap() {
            "xxh64" => KetamaProfile::Envoy(size),
            _ => KetamaProfile::EnvoyMurmur2(size),
        };
        let ring = Ketama::new(profile, &members).unwrap();
        let points: Vec<(String, u64)> = ring
            .ring()
            .points()
            .map(|(position, node)| (members[node].name().to_string(), position))
            .collect();
        let wanted = case["ring"].as_array().unwrap();
        let wanted: Vec<(String, u64)> = wanted
            .iter()
            .map(|point| (name(&point[0]), number(&point[1])))
            .collect();
        assert_eq!(points, wanted);
        for choice in case["choices"].as_array().unwrap() {
            assert_eq!(
                members[ring.owner(number(&choice[0]))].name(),
                name(&choice[1])
            );
        }
    }
}

#[test]
fn envoy_sizes_its_ring_by_the_lightest_host() {
    // As its documentation has it: the lightest of weights 1 and 3 has a whole number of points, and the
    // ring has no more than the maximum.
    let members = Members::in_order([
        Member::new("a:1").with_weight(1.0),
        Member::new("b:1").with_weight(3.0),
    ]);
    let count = |min, max| {
        let profile = KetamaProfile::Envoy(EnvoySize::new(min, max));
        let ring = Ketama::new(profile, members.as_ref().unwrap()).unwrap();
        let light = ring
            .ring()
            .points()
            .filter(|(_, node)| node.get() == 0)
            .count();
        (light, ring.ring().point_count())
    };
    assert_eq!(count(1024, EnvoySize::MAX), (256, 1024));
    assert_eq!(count(5, EnvoySize::MAX), (2, 8));
    assert_eq!(count(1, 3), (1, 3));
}

#[test]
fn a_size_out_of_bounds_is_refused_by_name() {
    let members = Members::from_names(["a:1", "b:1"]).unwrap();
    for size in [
        EnvoySize::new(0, 8),
        EnvoySize::new(9, 8),
        EnvoySize::new(1, u64::MAX),
    ] {
        let refused = Ketama::new(KetamaProfile::Envoy(size), &members).unwrap_err();
        assert!(matches!(refused, BuildError::Size { .. }));
    }
    let heavy = Members::new([Member::new("a:1").with_weight(1e6)]).unwrap();
    let refused = Ketama::new(KetamaProfile::Nginx, &heavy).unwrap_err();
    assert!(matches!(
        refused,
        BuildError::Size {
            field: "points in all",
            ..
        }
    ));
    let envoy = MaglevProfile::Envoy;
    assert!(matches!(
        Maglev::new(envoy, &members, 4),
        Err(BuildError::NotPrime { .. })
    ));
    assert!(matches!(
        Maglev::new(envoy, &members, u32::MAX),
        Err(BuildError::Size { .. })
    ));
    let none = Members::default();
    assert!(matches!(
        Maglev::new(envoy, &none, 7),
        Err(BuildError::NoOwner { .. })
    ));
    assert!(matches!(
        Ketama::new(KetamaProfile::Nginx, &none),
        Err(BuildError::NoOwner { .. })
    ));
}

fn table_of(case: &Case) -> Vec<u32> {
    case["table"]
        .as_array()
        .unwrap()
        .iter()
        .map(small)
        .collect()
}

#[test]
fn maglev_of_envoy_is_envoys() {
    for case in cases(MAGLEV, "envoy") {
        let weights = &case["weights"];
        let weight = |n: usize| -> f64 {
            if case["locality_of"].is_null() {
                let localities = case["note"]
                    .as_str()
                    .is_some_and(|note| note.contains("localities"));
                if localities {
                    1.0
                } else {
                    weights[n].as_f64().unwrap()
                }
            } else {
                let locality = case["locality_of"][n].as_str().unwrap();
                case["locality_weights"][locality].as_f64().unwrap()
            }
        };
        let hosts = case["hosts"].as_array().unwrap().iter().enumerate();
        let hosts =
            hosts.map(|(n, host)| Member::new(host.as_str().unwrap()).with_weight(weight(n)));
        let members = Members::in_order(hosts).unwrap();
        let table =
            Maglev::new(MaglevProfile::Envoy, &members, small(&case["table_size"])).unwrap();
        let slots: Vec<u32> = table.slots().map(NodeIx::get).collect();
        assert_eq!(slots, table_of(&case), "{case}");
        for (slot, node) in slots.iter().zip(0..) {
            assert_eq!(table.owner(node).get(), *slot);
        }
        if let Some(retry) = case["retry"].as_object() {
            let second = table.owner_on(number(&retry["hash"]), 1);
            assert_eq!(second.get(), small(&retry["attempt_2_when_first_rejected"]));
        }
    }
}

#[test]
fn maglev_of_katran_is_katrans() {
    for case in cases(MAGLEV, "katran_live") {
        let endpoints = case["endpoints"].as_array().unwrap();
        let profile = match case["algo"].as_str().unwrap() {
            "katran_maglev_v1" => MaglevProfile::KatranV1,
            _ => MaglevProfile::KatranV2,
        };
        let members = Members::in_order(endpoints.iter().map(|endpoint| {
            Member::new(number(&endpoint["hash"]).to_string())
                .with_weight(endpoint["weight"].as_f64().unwrap())
        }))
        .unwrap();
        let table = Maglev::new(profile, &members, small(&case["ring_size"])).unwrap();
        let slots: Vec<u32> = table
            .slots()
            .map(|node| small(&endpoints[node.index()]["num"]))
            .collect();
        assert_eq!(slots, table_of(&case), "{case}");
    }
}

#[test]
fn maglev_of_cilium_is_ciliums() {
    for case in cases(MAGLEV, "cilium") {
        let backends = case["backends"].as_array().unwrap();
        let members = Members::in_order(backends.iter().rev().map(|backend| {
            let (addr, port) = (backend["addr"].as_str().unwrap(), &backend["port"]);
            Member::new(format!("[{addr}:{port}/TCP,State:active]"))
                .with_weight(backend["weight"].as_f64().unwrap())
        }))
        .unwrap();
        let profile = MaglevProfile::Cilium {
            seed: MaglevProfile::CILIUM_SEED,
        };
        let table = Maglev::new(profile, &members, small(&case["table_size"])).unwrap();
        let slots: Vec<u32> = table
            .slots()
            .map(|node| small(&backends[backends.len() - 1 - node.index()]["id"]))
            .collect();
        assert_eq!(slots, table_of(&case));
        assert_eq!(case["hash_seed"], "default");
        for (id, wanted) in (0..).zip(case["slots_per_backend"].as_array().unwrap()) {
            let count = slots.iter().filter(|slot| **slot == id).count();
            assert_eq!(count as u64, number(wanted));
        }
    }
}
