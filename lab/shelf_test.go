package lab

import (
	"context"
	"errors"
	"testing"
)

// shelfMap is a ShelfStore.
type shelfMap map[string][]byte

func (m shelfMap) Recall(_ context.Context, commit, cpu, work string) ([]byte, error) {
	return m[commit+cpu+work], nil
}

func (m shelfMap) Keep(_ context.Context, commit, cpu, work string, value []byte) error {
	m[commit+cpu+work] = value
	return nil
}

func TestShelfDoesWorkOnce(t *testing.T) {
	done := 0
	work := func() (Measurement, error) {
		done++
		return Measurement{Value: 1.0 / 3, Extra: map[string]float64{"rank": 2}}, nil
	}
	s := &Shelf{}
	for range 2 {
		m, err := once(t.Context(), s, "lora, seed 1", work)
		if err != nil || m.Value != 1.0/3 || m.Extra["rank"] != 2 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if done != 1 {
		t.Errorf("done %d times on one shelf", done)
	}
	if _, err := once(t.Context(), s, "lora, seed 2", work); err != nil || done != 2 {
		t.Errorf("another piece of work: done %d, %v", done, err)
	}
	if _, err := once(t.Context(), nil, "lora, seed 1", work); err != nil || done != 3 {
		t.Errorf("without a shelf: done %d, %v", done, err)
	}
	failed := errors.New("failed")
	if _, err := once(t.Context(), s, "bone", func() (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if v, err := once(t.Context(), s, "bone", func() (int, error) { return 7, nil }); err != nil || v != 7 {
		t.Errorf("after a failure: %v, %v", v, err)
	}
}

// What a store has is taken only on request, and only for a clean source.
func TestShelfRecall(t *testing.T) {
	commit, modified := Commit()
	store := shelfMap{commit + CPU() + "lora": []byte("5")}
	six := func() (int, error) { return 6, nil }
	want := 5
	if modified {
		want = 6
	}
	if v, err := once(t.Context(), &Shelf{Store: store, Recall: true}, "lora", six); err != nil || v != want {
		t.Errorf("recalled %d, %v, want %d", v, err, want)
	}
	if v, err := once(t.Context(), &Shelf{Store: store}, "lora", six); err != nil || v != 6 {
		t.Errorf("not to be recalled: %d, %v", v, err)
	}
}
