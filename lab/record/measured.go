package record

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"tare/lab/compare"
)

// Store keeps the cells of comparisons.
var _ compare.Store = (*Store)(nil)

// Measured implements compare.Store.
func (s *Store) Measured(ctx context.Context, k compare.Key) ([]byte, error) {
	var result []byte
	err := s.db.QueryRowContext(ctx,
		`SELECT result FROM measured WHERE base = ? AND data = ? AND task = ? AND seed = ? AND commit_id = ? AND cpu = ?`,
		k.Base, k.Data, k.Task, int64(k.Seed), k.Commit, k.CPU).Scan(&result)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return result, s.wrap("reading a measured cell", err)
}

// KeepMeasured implements compare.Store. A result that is there already is replaced.
func (s *Store) KeepMeasured(ctx context.Context, k compare.Key, result []byte) error {
	_, err := s.db.ExecContext(ctx,
		`INSERT INTO measured (base, data, task, seed, commit_id, cpu, made, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT DO UPDATE SET made = excluded.made, result = excluded.result`,
		k.Base, k.Data, k.Task, int64(k.Seed), k.Commit, k.CPU, time.Now().UnixMicro(), result)
	return s.wrap("keeping a measured cell", err)
}
