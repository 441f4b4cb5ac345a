package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tare/lab"
)

// What can be wrong with a store, to be checked with errors.Is.
var (
	// ErrFormat marks a file that is not a store, is damaged, or was written by
	// a newer version.
	ErrFormat = errors.New("not a readable record store")
	// ErrNone marks a question for a record that is not there.
	ErrNone = errors.New("no such record")
)

// Store is an open file of records. It is safe for use by several goroutines,
// and its file by several processes.
type Store struct {
	db   *sql.DB
	path string
}

// Store keeps the harness's cells and records, and what experiments share.
var (
	_ lab.Store      = (*Store)(nil)
	_ lab.ShelfStore = (*Store)(nil)
)

// Open opens the store at path, makes it and its folder where they are
// missing, and brings an older file to the current form. The error for a file
// that is no store, is damaged or is newer than this program wraps [ErrFormat]
// and names the file.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("record: %s: making its folder: %w", path, err)
	}
	// Writers wait for one another (busy_timeout) instead of failing, and take
	// their lock at BEGIN, because a lock taken midway cannot be waited for.
	// The path is escaped because "?" or "#" in it would end it.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)",
	}}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("record: %s: %w", path, err)
	}
	s := &Store{db: db, path: path}
	if err := s.ready(); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// Path is the file the store was opened at.
func (s *Store) Path() string { return s.path }

// Close closes the file.
func (s *Store) Close() error { return s.wrap("closing", s.db.Close()) }

// ready checks the file's pages and brings its tables to the current form.
func (s *Store) ready() error {
	var verdict string
	if err := s.db.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return s.wrap("opening", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("record: %s: %w: it is damaged (%s); move it away and run again", s.path, ErrFormat, verdict)
	}
	return s.migrate()
}

// wrap gives err the file's name and marks damage as [ErrFormat].
func (s *Store) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the low byte is the primary code
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("record: %s: %s: %w (%v); move it away and run again", s.path, doing, ErrFormat, err)
		}
	}
	return fmt.Errorf("record: %s: %s: %w", s.path, doing, err)
}

// Begin implements lab.Store.
func (s *Store) Begin(ctx context.Context, key lab.Key, resume bool) (run int64, started time.Time, done []lab.Cell, err error) {
	if resume {
		run, started, err = s.unfinished(ctx, key)
		if err == nil {
			done, err = s.cells(ctx, run)
			return run, started, done, err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return 0, time.Time{}, nil, s.wrap("looking for an unfinished run", err)
		}
	}
	started = time.Now().UTC()
	run, err = s.begin(ctx, key, started)
	return run, started, nil, s.wrap("starting a run", err)
}

func (s *Store) begin(ctx context.Context, key lab.Key, started time.Time) (int64, error) {
	r, err := s.db.ExecContext(ctx,
		`INSERT INTO runs (slug, quick, commit_id, cpu, started) VALUES (?, ?, ?, ?, ?)`,
		key.Slug, key.Quick, key.Commit, key.CPU, started.UnixMicro())
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

func (s *Store) unfinished(ctx context.Context, key lab.Key) (run int64, started time.Time, err error) {
	var at int64
	err = s.db.QueryRowContext(ctx,
		`SELECT id, started FROM runs
		 WHERE slug = ? AND quick = ? AND commit_id = ? AND cpu = ? AND record IS NULL
		 ORDER BY id DESC LIMIT 1`,
		key.Slug, key.Quick, key.Commit, key.CPU).Scan(&run, &at)
	return run, time.UnixMicro(at).UTC(), err
}

func (s *Store) cells(ctx context.Context, run int64) ([]lab.Cell, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT cell FROM cells WHERE run = ? ORDER BY rowid`, run)
	if err != nil {
		return nil, s.wrap("reading cells", err)
	}
	defer rows.Close()
	var out []lab.Cell
	for rows.Next() {
		var blob []byte
		if err := rows.Scan(&blob); err != nil {
			return nil, s.wrap("reading cells", err)
		}
		var c lab.Cell
		if err := json.Unmarshal(blob, &c); err != nil {
			return nil, fmt.Errorf("record: %s: cell of run %d: %w: %w", s.path, run, ErrFormat, err)
		}
		out = append(out, c)
	}
	return out, s.wrap("reading cells", rows.Err())
}

// SaveCell implements lab.Store. A cell that is there already is replaced.
func (s *Store) SaveCell(ctx context.Context, run int64, c lab.Cell) error {
	blob, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("record: cell of arm %q, seed %d: %w", c.Arm, c.Seed, err)
	}
	_, err = s.db.ExecContext(ctx,
		`INSERT INTO cells (run, arm, seed, cell) VALUES (?, ?, ?, ?)
		 ON CONFLICT (run, arm, seed) DO UPDATE SET cell = excluded.cell`,
		run, c.Arm, int64(c.Seed), blob)
	return s.wrap("keeping a cell", err)
}

// Finish implements lab.Store.
func (s *Store) Finish(ctx context.Context, run int64, r *lab.Record) error {
	blob, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record: record of %s: %w", r.Slug, err)
	}
	res, err := s.db.ExecContext(ctx,
		`UPDATE runs SET record = ?, verdict = ? WHERE id = ?`, blob, string(r.Verdict), run)
	if err != nil {
		return s.wrap("keeping a record", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(fmt.Errorf("record: %s: run %d: %w", s.path, run, ErrNone), err)
	}
	return nil
}

// Recall implements lab.ShelfStore.
func (s *Store) Recall(ctx context.Context, commit, cpu, work string) ([]byte, error) {
	var value []byte
	err := s.db.QueryRowContext(ctx,
		`SELECT value FROM shelf WHERE commit_id = ? AND cpu = ? AND work = ?`, commit, cpu, work).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return value, s.wrap("recalling "+work, err)
}

// Keep implements lab.ShelfStore.
func (s *Store) Keep(ctx context.Context, commit, cpu, work string, value []byte) error {
	_, err := s.db.ExecContext(ctx,
		`INSERT INTO shelf (commit_id, cpu, work, value) VALUES (?, ?, ?, ?)
		 ON CONFLICT (commit_id, cpu, work) DO UPDATE SET value = excluded.value`, commit, cpu, work, value)
	return s.wrap("keeping "+work, err)
}

// Save keeps a finished record that no run of this store led to, and returns
// its number.
func (s *Store) Save(ctx context.Context, r *lab.Record) (int64, error) {
	run, err := s.begin(ctx, lab.Key{Slug: r.Slug, Quick: r.Quick, Commit: r.Commit, CPU: r.CPU}, r.Started)
	if err != nil {
		return 0, s.wrap("keeping a record", err)
	}
	return run, s.Finish(ctx, run, r)
}

// Latest returns the newest finished record of a paper. Where there is none
// the error wraps [ErrNone].
func (s *Store) Latest(ctx context.Context, slug string) (*lab.Record, error) {
	var blob []byte
	err := s.db.QueryRowContext(ctx,
		`SELECT record FROM runs WHERE slug = ? AND record IS NOT NULL ORDER BY started DESC, id DESC LIMIT 1`,
		slug).Scan(&blob)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("record: %s: %w of %q: `tare reproduce %s` makes one", s.path, ErrNone, slug, slug)
	}
	if err != nil {
		return nil, s.wrap("reading the latest record", err)
	}
	return s.decode(blob)
}

// List returns all finished records, newest first.
func (s *Store) List(ctx context.Context) ([]*lab.Record, error) {
	rows, err := s.db.QueryContext(ctx,
		`SELECT record FROM runs WHERE record IS NOT NULL ORDER BY started DESC, id DESC`)
	if err != nil {
		return nil, s.wrap("listing records", err)
	}
	defer rows.Close()
	var out []*lab.Record
	for rows.Next() {
		var blob []byte
		if err := rows.Scan(&blob); err != nil {
			return nil, s.wrap("listing records", err)
		}
		r, err := s.decode(blob)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, s.wrap("listing records", rows.Err())
}

func (s *Store) decode(blob []byte) (*lab.Record, error) {
	r := new(lab.Record)
	if err := json.Unmarshal(blob, r); err != nil {
		return nil, fmt.Errorf("record: %s: a stored record: %w: %w", s.path, ErrFormat, err)
	}
	return r, nil
}
