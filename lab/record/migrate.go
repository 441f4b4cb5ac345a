package record

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations bring a file from user_version i to i + 1. Rows are only ever
// added here: a released row is what files in the field were made with.
var migrations = []string{
	`CREATE TABLE runs (
		id        INTEGER PRIMARY KEY,
		slug      TEXT    NOT NULL,
		quick     INTEGER NOT NULL,
		commit_id TEXT    NOT NULL,
		cpu       TEXT    NOT NULL,
		started   INTEGER NOT NULL, -- microseconds since 1970, UTC
		verdict   TEXT,             -- NULL, as record, until the run is finished
		record    BLOB              -- the record's JSON
	);
	CREATE INDEX runs_by_slug ON runs (slug, started);
	CREATE TABLE cells (
		run  INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
		arm  TEXT    NOT NULL,
		seed INTEGER NOT NULL, -- the seed's 64 bits, as a signed number
		cell BLOB    NOT NULL, -- the cell's JSON
		UNIQUE (run, arm, seed)
	);`,
	`CREATE TABLE shelf (
		commit_id TEXT NOT NULL,
		cpu       TEXT NOT NULL,
		work      TEXT NOT NULL,
		value     BLOB NOT NULL, -- JSON
		PRIMARY KEY (commit_id, cpu, work)
	);`,
	// What tare compare measured, under all that it depends on.
	`CREATE TABLE measured (
		base      TEXT    NOT NULL, -- hash of the base
		data      TEXT    NOT NULL, -- hash of the data
		task      TEXT    NOT NULL, -- what was done with them, as JSON
		seed      INTEGER NOT NULL, -- the seed's 64 bits, as a signed number
		commit_id TEXT    NOT NULL,
		cpu       TEXT    NOT NULL,
		made      INTEGER NOT NULL, -- microseconds since 1970, UTC
		result    BLOB    NOT NULL, -- the result's JSON
		UNIQUE (base, data, task, seed, commit_id, cpu)
	);`,
}

// migrate runs the migrations that the file has not seen, all in one
// transaction that other processes wait for.
func (s *Store) migrate() error {
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("opening", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	var version int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return s.wrap("reading its version", err)
	}
	if version > len(migrations) {
		return fmt.Errorf("record: %s: %w: its version is %d, this program knows up to %d: use a newer tare",
			s.path, ErrFormat, version, len(migrations))
	}
	for v := version; v < len(migrations); v++ {
		if err := apply(ctx, tx, v); err != nil {
			return s.wrap(fmt.Sprintf("bringing it from version %d to %d", v, v+1), err)
		}
	}
	return s.wrap("opening", tx.Commit())
}

func apply(ctx context.Context, tx *sql.Tx, v int) error {
	if _, err := tx.ExecContext(ctx, migrations[v]); err != nil {
		return err
	}
	// A pragma takes no parameters; v is a small number of our own.
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, v+1))
	return err
}
