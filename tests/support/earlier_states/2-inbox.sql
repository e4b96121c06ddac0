CREATE TABLE gpudrop_inbox (
    bucket TEXT NOT NULL,
    "key" TEXT NOT NULL,
    created BOOLEAN NOT NULL,
    source TEXT NOT NULL,
    received FLOAT NOT NULL,
    generation INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    not_before FLOAT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (bucket, "key")
);
CREATE INDEX gpudrop_inbox_waiting ON gpudrop_inbox (member, not_before, received);
CREATE TABLE gpudrop_outputs (
    bucket TEXT NOT NULL,
    "key" TEXT NOT NULL,
    run_id TEXT NOT NULL,
    lineage INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (bucket, "key")
);
CREATE INDEX gpudrop_outputs_by_run ON gpudrop_outputs (run_id);
CREATE TABLE gpudrop_redrives (
    number INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (number)
);
CREATE TABLE gpudrop_runs (
    run_id TEXT NOT NULL,
    bucket TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "trigger" TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    error_code TEXT NOT NULL,
    cancel TEXT NOT NULL,
    member TEXT DEFAULT '' NOT NULL,
    accepted FLOAT NOT NULL,
    updated FLOAT NOT NULL,
    request JSON NOT NULL,
    PRIMARY KEY (run_id)
);
CREATE INDEX gpudrop_runs_by_key ON gpudrop_runs (bucket, "key");
CREATE INDEX gpudrop_runs_by_state ON gpudrop_runs (state, member);
CREATE INDEX gpudrop_runs_by_time ON gpudrop_runs (accepted);
CREATE TABLE gpudrop_seen (
    bucket TEXT NOT NULL,
    "key" TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (bucket, "key")
);
CREATE TABLE gpudrop_sources (
    member TEXT NOT NULL,
    source TEXT NOT NULL,
    ok BOOLEAN NOT NULL,
    detail TEXT NOT NULL,
    hint TEXT NOT NULL,
    since FLOAT NOT NULL,
    counts JSON NOT NULL,
    PRIMARY KEY (member, source)
);
