package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// Shelf holds what several experiments measure alike, such as LoRA on the tune test, so
// that it runs once for all of them. The zero value keeps it while the program runs.
type Shelf struct {
	// Store keeps it for later runs of the same source on the same processor; may be nil.
	Store ShelfStore
	// Recall takes what earlier runs kept. Without it the store is only written.
	Recall bool

	mu      sync.Mutex
	held    map[string][]byte
	version version
}

// version is what values are of: they hold for one source on one processor.
type version struct {
	commit, cpu string
	modified    bool
}

// versionOnce asks for the version, which takes a process, at most once.
func (s *Shelf) versionOnce() version {
	if s.version == (version{}) {
		s.version.commit, s.version.modified = Commit()
		s.version.cpu = CPU()
	}
	return s.version
}

// ShelfStore keeps a shelf. lab/record implements it on SQLite.
type ShelfStore interface {
	// Recall returns what was kept for a piece of work, or nil.
	Recall(ctx context.Context, commit, cpu, work string) ([]byte, error)
	// Keep keeps it, in the place of what was there.
	Keep(ctx context.Context, commit, cpu, work string, value []byte) error
}

// once returns what work gave on this shelf, and does it where it is not there yet. The
// name must say everything that the value depends on but the source and the processor.
// Source that differs from its commit is never recalled.
func once[T any](ctx context.Context, s *Shelf, work string, do func() (T, error)) (v T, err error) {
	if s == nil {
		return do()
	}
	raw, err := s.find(ctx, work)
	if err != nil {
		return v, err
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &v); err != nil {
			return v, fmt.Errorf("lab: what was kept of %q: %w", work, err)
		}
		return v, nil
	}
	if v, err = do(); err != nil {
		return v, err
	}
	if raw, err = json.Marshal(v); err != nil {
		return v, fmt.Errorf("lab: keeping %q: %w", work, err)
	}
	return v, s.keep(ctx, work, raw)
}

// find returns what is held of a piece of work or, on request, what the store has; nil
// for neither.
func (s *Shelf) find(ctx context.Context, work string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if raw := s.held[work]; raw != nil || s.Store == nil || !s.Recall {
		return raw, nil
	}
	v := s.versionOnce()
	if v.modified {
		return nil, nil
	}
	return s.Store.Recall(ctx, v.commit, v.cpu, work)
}

func (s *Shelf) keep(ctx context.Context, work string, raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[string][]byte{}
	}
	s.held[work] = raw
	if s.Store == nil {
		return nil
	}
	v := s.versionOnce()
	if v.modified {
		return nil
	}
	return s.Store.Keep(context.WithoutCancel(ctx), v.commit, v.cpu, work, raw)
}
