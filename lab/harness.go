package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tare/engine/tensor/kernel"
)

// ErrNotFinite marks a measurement with a NaN or an infinity in it: the arm
// diverged, and a mean over it would say nothing.
var ErrNotFinite = errors.New("not a finite number")

// Options say how an experiment is run. The zero value runs all seeds in full
// and keeps nothing.
type Options struct {
	// Quick runs the short version: Env.Quick is set and QuickSeeds are drawn.
	Quick bool
	// Seeds overrides the experiment's number of seeds; 0 leaves it.
	Seeds int
	// Store keeps finished cells and the record; nil keeps nothing.
	Store Store
	// Resume goes on with the latest unfinished run of the same experiment,
	// settings, commit and processor, skipping the cells it has.
	Resume bool
	// Shelf holds what this experiment shares with others; nil shares it among its own
	// cells.
	Shelf *Shelf
	// Progress takes every step of every cell; may be nil.
	Progress func(Event)
	// Log takes the arms' log lines; may be nil.
	Log func(line string)
}

// Event is one report of progress.
type Event struct {
	Arm    string
	Seed   uint64
	Cell   int // 1-based number of the cell under way
	Cells  int // cells in all
	Step   int // within the cell
	Steps  int
	Note   string
	Reused bool // the cell came from the interrupted run
}

// Key says which runs are the same work, so that one may go on with the
// other's cells: times are only comparable on one processor, and values only
// for one version of the source.
type Key struct {
	Slug   string
	Quick  bool
	Commit string
	CPU    string
}

// Cell is one finished (arm, seed) pair. Spent is the seconds the whole cell
// took, preparation included.
type Cell struct {
	Arm         string      `json:"arm"`
	Seed        uint64      `json:"seed"`
	Spent       float64     `json:"spent"`
	Measurement Measurement `json:"measurement"`
}

// Store keeps what is finished. lab/record implements it on SQLite.
type Store interface {
	// Begin starts a run and returns its number. With resume it looks for the
	// latest unfinished run of key first and returns that one, when it was
	// started, and its cells.
	Begin(ctx context.Context, key Key, resume bool) (run int64, started time.Time, done []Cell, err error)
	// SaveCell keeps one finished cell of an unfinished run.
	SaveCell(ctx context.Context, run int64, c Cell) error
	// Finish keeps the record and closes the run.
	Finish(ctx context.Context, run int64, r *Record) error
}

type cellKey struct {
	arm  string
	seed uint64
}

// session is one call of Run: the experiment, its options and what is done.
type session struct {
	x       Experiment
	o       Options
	seeds   []uint64
	run     int64
	started time.Time
	done    map[cellKey]Cell
}

// Run runs every arm of x for every seed, all arms for seed 1 before any for
// seed 2, so that a slow hour of the machine or an interruption hits all arms
// alike, and returns the record with its verdict. One cell runs at a time.
//
// When ctx ends the cell under way is dropped, the finished ones stay in
// o.Store, and the error wraps ctx's; the same call with Resume goes on. An
// arm that fails ends the run with an error that names arm and seed.
func Run(ctx context.Context, x Experiment, o Options) (*Record, error) {
	if err := x.Validate(); err != nil {
		return nil, err
	}
	if o.Seeds < 0 {
		return nil, fmt.Errorf("lab: %s: %d seeds asked for, need at least 1", x.Slug, o.Seeds)
	}
	if o.Shelf == nil {
		o.Shelf = &Shelf{}
	}
	s := &session{x: x, o: o, started: time.Now().UTC(), done: map[cellKey]Cell{}}
	s.seeds = seedList(x, o)
	commit, modified := Commit()
	cpu := CPU()
	if o.Store != nil {
		key := Key{Slug: x.Slug, Quick: o.Quick, Commit: commit, CPU: cpu}
		run, started, cells, err := o.Store.Begin(ctx, key, o.Resume)
		if err != nil {
			return nil, fmt.Errorf("lab: %s: starting the run: %w", x.Slug, err)
		}
		s.run, s.started = run, started
		for _, c := range cells {
			s.done[cellKey{c.Arm, c.Seed}] = c
		}
	}
	if err := s.cells(ctx); err != nil {
		return nil, err
	}
	r := s.record()
	r.Commit, r.Modified, r.CPU = commit, modified, cpu
	if o.Store != nil {
		if err := o.Store.Finish(context.WithoutCancel(ctx), s.run, r); err != nil {
			return nil, fmt.Errorf("lab: %s: keeping the record: %w", x.Slug, err)
		}
	}
	return r, nil
}

func seedList(x Experiment, o Options) []uint64 {
	n := x.Seeds
	if o.Quick {
		n = x.QuickSeeds
	}
	if o.Seeds > 0 {
		n = o.Seeds
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i + 1)
	}
	return out
}

// cells runs what is not done yet.
func (s *session) cells(ctx context.Context) error {
	n := 0
	for _, seed := range s.seeds {
		for _, arm := range s.x.Arms {
			n++
			ev := Event{Arm: arm.Name, Seed: seed, Cell: n, Cells: len(s.seeds) * len(s.x.Arms)}
			if _, ok := s.done[cellKey{arm.Name, seed}]; ok {
				ev.Reused = true
				s.report(ev)
				continue
			}
			if err := ctx.Err(); err != nil {
				return s.interrupted(n-1, ev.Cells, err)
			}
			c, err := s.cell(ctx, arm, seed, ev)
			if err != nil {
				if ctx.Err() != nil {
					return s.interrupted(n-1, ev.Cells, ctx.Err())
				}
				return fmt.Errorf("lab: %s: arm %q, seed %d: %w", s.x.Slug, arm.Name, seed, err)
			}
			s.done[cellKey{arm.Name, seed}] = c
			if s.o.Store == nil {
				continue
			}
			// The cell is finished: an interruption that arrives now must not lose it.
			if err := s.o.Store.SaveCell(context.WithoutCancel(ctx), s.run, c); err != nil {
				return fmt.Errorf("lab: %s: keeping arm %q, seed %d: %w", s.x.Slug, arm.Name, seed, err)
			}
		}
	}
	return nil
}

func (s *session) interrupted(done, cells int, err error) error {
	if s.o.Store == nil {
		return fmt.Errorf("lab: %s: stopped with %d of %d cells done, none kept: %w", s.x.Slug, done, cells, err)
	}
	return fmt.Errorf("lab: %s: stopped with %d of %d cells done and kept, run it again with resume to go on: %w",
		s.x.Slug, done, cells, err)
}

// cell runs one arm for one seed.
func (s *session) cell(ctx context.Context, arm Arm, seed uint64, ev Event) (Cell, error) {
	env := Env{
		Quick: s.o.Quick, shelf: s.o.Shelf,
		Progress: func(step, steps int, note string) {
			ev := ev
			ev.Step, ev.Steps, ev.Note = step, steps, note
			s.report(ev)
		},
		Log: func(format string, args ...any) {
			if s.o.Log != nil {
				s.o.Log(fmt.Sprintf("%s seed %d: %s", arm.Name, seed, fmt.Sprintf(format, args...)))
			}
		},
	}
	s.report(ev)
	start := time.Now()
	m, err := arm.Run(ctx, env, seed)
	if err != nil {
		return Cell{}, err
	}
	spent := time.Since(start).Seconds()
	if m.Seconds == 0 {
		m.Seconds = spent
	}
	if err := m.check(); err != nil {
		return Cell{}, err
	}
	return Cell{Arm: arm.Name, Seed: seed, Spent: spent, Measurement: m}, nil
}

func (s *session) report(ev Event) {
	if s.o.Progress != nil {
		s.o.Progress(ev)
	}
}

// record folds the finished cells and judges them.
func (s *session) record() *Record {
	r := &Record{
		Slug: s.x.Slug, Claim: s.x.Claim, Figure: s.x.Figure, Rule: s.x.Rule.describe(s.x.Figure),
		Seeds: s.seeds, Quick: s.o.Quick, Threads: kernel.Threads(), Started: s.started,
	}
	res := results{figure: s.x.Figure, quick: s.o.Quick, byArm: map[string][]Measurement{}}
	for _, arm := range s.x.Arms {
		for _, seed := range s.seeds {
			c := s.done[cellKey{arm.Name, seed}]
			res.byArm[arm.Name] = append(res.byArm[arm.Name], c.Measurement)
			r.Seconds += c.Spent
		}
		r.Arms = append(r.Arms, armRecord(arm, res.byArm[arm.Name]))
	}
	r.Verdict, r.Findings = s.x.Rule.judge(res)
	return r
}
