package record

import (
	"path/filepath"
	"testing"

	"tare/lab/compare"
)

// A cell is found again under all that it depends on, and under nothing else.
func TestMeasuredCellsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	s := open(t, path)
	k := compare.Key{Base: "b", Data: "d", Task: `{"kind":"run"}`, Seed: 1<<63 + 5, Commit: "c", CPU: "p"}
	if got, err := s.Measured(t.Context(), k); got != nil || err != nil {
		t.Fatalf("an empty store has %q, %v", got, err)
	}
	for _, text := range []string{`{"loss":1}`, `{"loss":2}`} { // the second replaces the first
		if err := s.KeepMeasured(t.Context(), k, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, path)
	if got, err := s.Measured(t.Context(), k); string(got) != `{"loss":2}` || err != nil {
		t.Errorf("kept %q, %v", got, err)
	}
	for name, change := range map[string]func(*compare.Key){
		"base": func(k *compare.Key) { k.Base = "x" }, "data": func(k *compare.Key) { k.Data = "x" }, "task": func(k *compare.Key) { k.Task = "x" },
		"seed": func(k *compare.Key) { k.Seed = 5 }, "commit": func(k *compare.Key) { k.Commit = "x" }, "cpu": func(k *compare.Key) { k.CPU = "x" },
	} {
		other := k
		change(&other)
		if got, err := s.Measured(t.Context(), other); got != nil || err != nil {
			t.Errorf("with another %s: %q, %v", name, got, err)
		}
	}
}
