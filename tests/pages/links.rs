//! Links lead to files and headings that are there; those to other places are listed.

use crate::page::Page;
use llm_rate_limit_tests::wasm::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The list of addresses elsewhere, which nothing here can reach.
const ELSEWHERE: &str = "tests/pages/elsewhere.txt";

fn is_elsewhere(link: &str) -> bool {
    link.contains("://")
}

#[test]
fn every_link_leads_somewhere() {
    let pages = Page::all();
    let mut seen = 0;
    for page in &pages {
        for link in page.links().filter(|link| !is_elsewhere(link)) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            // A chapter that is yet to come.
            if link.is_empty() && page.name == "docs/SUMMARY.md" {
                continue;
            }
            let here = root().join(&page.name);
            let place = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
            assert!(place.exists(), "{}: {link}", page.name);
            let place = place.canonicalize().unwrap();
            assert!(place.starts_with(root().canonicalize().unwrap()), "{}: {link}", page.name);
            if !anchor.is_empty() {
                let name = place.strip_prefix(root().canonicalize().unwrap()).unwrap();
                let anchors = Page::named(name.to_str().unwrap()).anchors();
                assert!(anchors.iter().any(|known| known == anchor), "{}: {link}", page.name);
            }
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen}");
}

/// `UPDATE_DOCS=1 cargo test -p llm-rate-limit-tests --test pages` writes the list.
#[test]
fn links_to_other_places_are_listed() {
    let pages = Page::all();
    let links = pages.iter().flat_map(Page::links).filter(|link| is_elsewhere(link));
    let links: BTreeSet<&str> = links.collect();
    assert!(links.iter().all(|link| link.starts_with("https://")), "{links:#?}");
    let expected: String = links.iter().map(|link| format!("{link}\n")).collect();
    let list = root().join(ELSEWHERE);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&list, &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(&list).unwrap(), expected, "UPDATE_DOCS=1 writes {ELSEWHERE}");
}

/// Comments link to the facts about Envoy that they rely on, as `docs/envoy.md#local-replies`. Each link leads to a
/// fact, and each fact has a link, but for the title.
#[test]
fn comments_and_facts_about_envoy_are_linked() {
    const PAGE: &str = "docs/envoy.md";
    let known: BTreeSet<String> = Page::named(PAGE).anchors().into_iter().collect();
    let mut unlinked = known.clone();
    each_file(&root().join("src"), &mut |path| {
        let text = fs::read_to_string(path).unwrap();
        for rest in text.split(&format!("{PAGE}#")).skip(1) {
            let anchor = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
            assert!(known.contains(anchor), "{}: {anchor}", path.display());
            unlinked.remove(anchor);
        }
    });
    assert_eq!(Vec::from_iter(unlinked), ["what-envoy-does"]);
}

fn each_file(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, visit) } else { visit(&path) }
    }
}
