package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tare/lab"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// toy is a record with every field filled.
func toy(slug string, started time.Time) *lab.Record {
	return &lab.Record{
		Slug: slug, Claim: "smaller \"<&>\" λ", Figure: lab.Figure{Name: "loss", Unit: "nats", Better: lab.Lower},
		Arms: []lab.ArmRecord{{Name: "net", Role: lab.Method, Mean: 0.1, StdErr: 0.01, Values: []float64{0.09, 0.11},
			Trainable: 12, Peak: lab.PeakBytes{Weights: 1, Gradients: 2, Optimizer: 3, Activations: 4, Scratch: 5},
			Seconds: 1.5, Extra: map[string]lab.Spread{"rank": {Mean: 3, Values: []float64{3, 3}}},
			Curves: [][]lab.Point{{{Step: 1, Value: 2}}, {}}}},
		Verdict: lab.Mixed, Rule: "a rule", Commit: "abc", CPU: "a cpu", Threads: 2, Started: started, Seconds: 3,
		Seeds: []uint64{1, 2}, Findings: []lab.Finding{{Method: "net", Baseline: "plain", Verdict: lab.Mixed}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder?", "re#cords 100%.db")
	s := open(t, path)
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	old, fresh, other := toy("bone", now), toy("bone", now.Add(time.Hour)), toy("paca", now.Add(time.Minute))
	for _, r := range []*lab.Record{fresh, old, other} {
		if _, err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the store is not where it was asked for: %v", err)
	}
	s = open(t, path)
	got, err := s.Latest(t.Context(), "bone")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, fresh) {
		t.Errorf("latest\n%+v\nwant\n%+v", got, fresh)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 3 || all[0].Slug != "bone" || all[1].Slug != "paca" || !all[2].Started.Equal(now) {
		t.Errorf("list %+v, %v: want bone, paca, bone, newest first", all, err)
	}
	if _, err := s.Latest(t.Context(), "awq"); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "tare reproduce awq") {
		t.Errorf("no record: %v", err)
	}
}

func TestHarnessResumesOnTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	ran := 0
	experiment := func(stop func() error) lab.Experiment {
		run := func(_ context.Context, _ lab.Env, seed uint64) (lab.Measurement, error) {
			if err := stop(); err != nil {
				return lab.Measurement{}, err
			}
			ran++
			return lab.Measurement{Value: float64(seed), Peak: map[string]int64{lab.Weights: 1}}, nil
		}
		return lab.Experiment{Slug: "toy", Claim: "c", Figure: lab.Figure{Name: "f", Better: lab.Lower}, Seeds: 2, QuickSeeds: 1,
			Arms: []lab.Arm{{Name: "m", Role: lab.Method, Run: run}, {Name: "b", Role: lab.Baseline, Run: run}},
			Rule: lab.NotWorse("m", "b")}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := open(t, path)
	_, err := lab.Run(ctx, experiment(func() error {
		if ran == 3 {
			cancel()
		}
		return ctx.Err()
	}), lab.Options{Store: s})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run: %v", err)
	}
	s.Close()

	s = open(t, path)
	never := func() error { return nil }
	r, err := lab.Run(t.Context(), experiment(never), lab.Options{Store: s, Resume: true})
	if err != nil || ran != 4 {
		t.Fatalf("resumed run: %v after %d cells, want 4 in all", err, ran)
	}
	if r.Verdict != lab.Supported {
		t.Errorf("verdict %q", r.Verdict)
	}
	stored, err := s.Latest(t.Context(), "toy")
	if err != nil || !reflect.DeepEqual(stored.Arms, r.Arms) {
		t.Errorf("stored %+v (%v), want %+v", stored, err, r)
	}
	// A finished run is not gone on with, nor is one of another kind.
	if _, err := lab.Run(t.Context(), experiment(never), lab.Options{Store: s, Resume: true, Quick: true}); err != nil || ran != 6 {
		t.Errorf("a quick run after it: %v, %d cells in all, want 6", err, ran)
	}
	if _, err := lab.Run(t.Context(), experiment(never), lab.Options{Store: s, Resume: true}); err != nil || ran != 10 {
		t.Errorf("a full run after it: %v, %d cells in all, want 10", err, ran)
	}
}

func TestManyWritersAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	const stores, writers, cells = 3, 4, 5
	var wg sync.WaitGroup
	errs := make(chan error, stores*writers*cells+stores)
	for i := range stores {
		wg.Go(func() { // each opens the file itself, as another process would
			s, err := Open(path)
			if err != nil {
				errs <- err
				return
			}
			defer s.Close()
			var inner sync.WaitGroup
			for j := range writers {
				inner.Go(func() { errs <- oneRun(s, fmt.Sprintf("s%d-%d", i, j), cells) })
			}
			inner.Wait()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	all, err := open(t, path).List(t.Context())
	if err != nil || len(all) != stores*writers {
		t.Errorf("%d records, %v; want %d", len(all), err, stores*writers)
	}
}

func oneRun(s *Store, slug string, cells int) error {
	ctx := context.Background()
	run, started, _, err := s.Begin(ctx, lab.Key{Slug: slug}, false)
	if err != nil {
		return err
	}
	for seed := range cells {
		if err := s.SaveCell(ctx, run, lab.Cell{Arm: "a", Seed: uint64(seed)}); err != nil {
			return err
		}
	}
	_, _, done, err := s.Begin(ctx, lab.Key{Slug: slug}, true)
	if err != nil || len(done) != cells {
		return errors.Join(fmt.Errorf("%s: %d cells kept, want %d", slug, len(done), cells), err)
	}
	return s.Finish(ctx, run, toy(slug, started))
}

func TestDamagedFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.db")
	s := open(t, whole)
	for i := range 50 {
		if _, err := s.Save(t.Context(), toy(fmt.Sprint("p", i), time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"text.db":      []byte(strings.Repeat("these are not records\n", 400)),
		"truncated.db": good[:len(good)/2],
		"scribbled.db": append(append(append([]byte{}, good[:4096]...), make([]byte, 4096)...), good[8192:]...),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err == nil {
			s.Close()
			t.Errorf("%s opened", name)
			continue
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !reflect.DeepEqual(after, data) {
			t.Errorf("%s was changed by opening it", name)
		}
	}
}

func TestNewerFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	s := open(t, path)
	if _, err := s.db.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "99") {
		t.Errorf("newer file: %v", err)
	}
}

func TestShelf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	s := open(t, path)
	if v, err := s.Recall(t.Context(), "abc", "cpu", "lora"); v != nil || err != nil {
		t.Errorf("an empty shelf gave %q, %v", v, err)
	}
	for _, v := range []string{"1", "2"} {
		if err := s.Keep(t.Context(), "abc", "cpu", "lora", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, path)
	if v, err := s.Recall(t.Context(), "abc", "cpu", "lora"); string(v) != "2" || err != nil {
		t.Errorf("recalled %q, %v, want the last that was kept", v, err)
	}
	if v, err := s.Recall(t.Context(), "abd", "cpu", "lora"); v != nil || err != nil {
		t.Errorf("another commit gave %q, %v", v, err)
	}
}
