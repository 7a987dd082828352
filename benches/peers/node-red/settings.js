// Node-RED as small as it goes: no editor, and nothing that it does for an editor.
module.exports = {
    uiHost: "127.0.0.1",
    uiPort: Number(process.env.PEERS_UI_PORT),
    flowFile: "flows.json",
    credentialSecret: false,
    disableEditor: true,
    telemetry: { enabled: false },
    externalModules: { autoInstall: false },
    diagnostics: { enabled: false, ui: false },
    runtimeState: { enabled: false, ui: false },
    logging: { console: { level: "warn", metrics: false, audit: false } },
};
