//! Shows where the cache has a repository of the Hub, without a connection:
//!
//! ```text
//! cargo run -p eigenmix-hub --example cached -- org/name@main
//! ```

use eigenmix_hub::{FileRequest, Hub, HubError, HubId};

fn main() -> Result<(), HubError> {
    let argument = std::env::args().nth(1);
    let id = HubId::parse(argument.as_deref().unwrap_or("org/adapter@main"))?;
    println!("repository {}", id.repository());
    println!(
        "revision {}",
        id.revision().unwrap_or("main, as none is named")
    );

    let hub = Hub::from_env()?.offline(true);
    let repository = match hub.open(&id) {
        Ok(repository) => repository,
        Err(error) => {
            println!("not here: {error}");
            return Ok(());
        }
    };
    println!("commit {}", repository.commit());
    let wishes: Vec<FileRequest> = repository
        .files()
        .iter()
        .map(FileRequest::optional)
        .collect();
    println!("files in {}", repository.fetch(&wishes)?.display());
    for name in repository.files() {
        println!("  {name}");
    }
    Ok(())
}
