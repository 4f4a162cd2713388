//! The page that compares Ottla with Kafka says what the code says.

use ottla_tests::artifact::root;
use ottla_wire::Api;

#[test]
fn the_page_of_apis_says_what_the_broker_speaks() {
    let page = std::fs::read_to_string(root().join("docs/kafka.md")).expect("docs/kafka.md is part of the repository");
    for api in Api::served() {
        let row = format!(
            "| {} | {} | {} | {} | {} |",
            api.key as i16, api.name, api.advertised, api.served, api.not_supported
        );
        assert!(page.contains(&row), "docs/kafka.md lacks this row:\n{row}");
    }
}
