mod exchange;
mod server;
mod settings;
mod verdict;
