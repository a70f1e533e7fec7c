// SPDX-License-Identifier: BSD-2-Clause
//! The system description of the Linux guest has the sizes that [`layout`] computes and the ids and
//! slots of this crate.

use partita_guest_protocol::{channel, layout, symbol};
use partita_papr::HptOrder;
use roxmltree::{Document, Node};

const SYSTEM: &str = include_str!("../../../system.xml");

fn number(node: Node<'_, '_>, attribute: &str) -> u64 {
    let text = node.attribute(attribute).unwrap().replace('_', "");
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn named<'a, 'd>(document: &'a Document<'d>, tag: &str, name: &str) -> Node<'a, 'd> {
    let mut found = document
        .descendants()
        .filter(|node| node.has_tag_name(tag) && node.attribute("name") == Some(name));
    found.next().unwrap_or_else(|| panic!("{tag} {name}"))
}

fn in_slot<'a, 'd>(pd: Node<'a, 'd>, slot: usize) -> Node<'a, 'd> {
    pd.descendants()
        .find(|node| node.has_attribute("slot") && number(*node, "slot") == slot as u64)
        .unwrap_or_else(|| panic!("slot {slot}"))
}

#[test]
fn sizes() {
    let document = Document::parse(SYSTEM).unwrap();
    let vm = named(&document, "virtual_machine", "linux");
    let memory = number(vm, "memory");
    assert_eq!(
        number(vm, "hpt_order"),
        u64::from(layout::hpt_order(memory))
    );
    let order = HptOrder::new(number(vm, "hpt_order") as u32).unwrap();
    let vcpus = vm
        .children()
        .filter(|node| node.has_tag_name("vcpu"))
        .count() as u64;

    let memslots = named(&document, "protection_domain", "memslots");
    let untyped = in_slot(memslots, symbol::UNTYPED_SLOT);
    let untyped = number(untyped, "size") * number(untyped, "count");
    assert!(untyped >= memory, "all of the guest's memory");
    let cnode = in_slot(memslots, symbol::FRAMES_SLOT);
    assert_eq!(
        number(cnode, "radix"),
        u64::from(layout::frames_radix(untyped))
    );
    let spare = in_slot(memslots, symbol::SPARE_SLOT);
    assert_eq!(number(spare, "size"), layout::SPARE_BYTES);

    for (region, bytes) in [
        ("slot_table", layout::SLOT_TABLE_BYTES),
        ("epoch_hpt", layout::EPOCH_BYTES),
        ("epoch_vpa", layout::EPOCH_BYTES),
        ("page_state", layout::page_state_bytes(untyped)),
        ("rev", layout::rev_bytes(order)),
        ("rmap", layout::rmap_bytes(memory)),
        ("hpt_control", layout::pages(layout::HPT_CONTROL_BYTES)),
        ("vpa_areas", layout::vpa_areas_bytes(vcpus)),
        ("vpa_views", layout::vpa_views_bytes(vcpus)),
        ("vm_state", layout::vm_state_bytes(vcpus)),
        ("dirty_log", layout::dirty_log_bytes(memory)),
    ] {
        let region = named(&document, "memory_region", region);
        let page = region
            .attribute("page_size")
            .map_or(0x1000, |_| number(region, "page_size"));
        assert_eq!(
            number(region, "size"),
            bytes.next_multiple_of(page),
            "{region:?}"
        );
    }
    let vpa = named(&document, "protection_domain", "vpa");
    assert_eq!(
        number(in_slot(vpa, symbol::VIEW_SLOT), "count"),
        1 + 3 * vcpus
    );
}

/// The id of an end names the PD at the other end.
#[test]
fn ids_name_peers() {
    let document = Document::parse(SYSTEM).unwrap();
    let mut ends = 0;
    for channel in document
        .descendants()
        .filter(|node| node.has_tag_name("channel"))
    {
        let pair: Vec<_> = channel.children().filter(Node::is_element).collect();
        for (end, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let expected = match other.attribute("pd").unwrap() {
                // serial has ids of its own.
                _ if end.attribute("pd") == Some("serial") => continue,
                "memslots" => channel::MEMSLOTS,
                "serial" => channel::SERIAL,
                "vcpu" => channel::VCPU,
                "hpt" => channel::HPT,
                "vpa" => channel::VPA,
                other => panic!("{other} has no id"),
            };
            assert_eq!(number(end, "id"), expected as u64, "{end:?}");
            ends += 1;
        }
        // Who calls, and who is called, has no notification beside.
        let calls = pair.iter().any(|end| end.attribute("pp") == Some("true"));
        let silent = |end: &Node<'_, '_>| end.attribute("notify") == Some("false");
        assert_eq!(
            pair.iter().filter(|end| silent(end)).count(),
            if calls { 2 } else { 0 }
        );
    }
    assert!(ends > 0);
    for route in document
        .descendants()
        .filter(|node| node.has_tag_name("route"))
    {
        let own = route.attribute("pd") == Some("vcpu");
        let expected = if own {
            channel::PARENT_ROUTE
        } else {
            channel::ROUTE
        };
        assert_eq!(number(route, "id"), expected as u64);
    }
}
