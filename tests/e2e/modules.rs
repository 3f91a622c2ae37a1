//! The macro that declares the modules of this crate, so that none can be forgotten.
//!
//! A module with tests that need keys in the shared gateways' configuration defines a function `keys`; [`modules!`]
//! finds it. The compiler ignores a file that no `modules!` declares, so a test here looks for such files.

use std::path::Path;

/// Declares modules, and defines `keys`, which collects their keys, and `MODULES`, the list of their names.
macro_rules! modules {
    ($($module:ident),+ $(,)?) => {
        $(mod $module;)+

        /// The names of the modules declared beside this.
        pub const MODULES: &[&str] = &[$(stringify!($module)),+];

        /// The keys of the modules declared beside this.
        pub fn keys() -> serde_json::Value {
            /// Serves a module without a function `keys`; where there is one, it shadows this one.
            #[allow(dead_code, reason = "every module may have keys of its own")]
            fn keys() -> serde_json::Value {
                serde_json::json!([])
            }
            let modules = [$({
                #[allow(unused_imports, reason = "a module may have no keys")]
                use $module::*;
                keys()
            }),+];
            modules.iter().flat_map(|keys| keys.as_array().unwrap().clone()).collect()
        }
    };
}

/// Checks that every file in `folder` is one of `modules`, except those that declare them.
fn assert_are_all(folder: &str, modules: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let declares = ["main", "mod", "modules"].contains(&name);
        assert!(declares || modules.contains(&name), "{} is in no modules! {{ … }}", path.display());
    }
}

#[test]
fn no_file_is_forgotten() {
    assert_are_all("e2e", crate::MODULES);
    assert_are_all("e2e/body", crate::body::MODULES);
    assert_are_all("e2e/caps_and_reservations", crate::caps_and_reservations::MODULES);
    assert_are_all("e2e/endings", crate::endings::MODULES);
    assert_are_all("e2e/endpoints_and_upgrades", crate::endpoints_and_upgrades::MODULES);
    assert_are_all("e2e/policy", crate::policy::MODULES);
}

#[test]
fn keys_are_found_in_modules_that_have_them() {
    let all = crate::keys();
    for module in [crate::admission::keys(), crate::tokens::keys()] {
        assert!(module.as_array().unwrap().iter().all(|key| all.as_array().unwrap().contains(key)));
    }
}
