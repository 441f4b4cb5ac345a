package data

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// numbered returns n rows of the numbers 10·i and 10·i + 1, labelled i.
func numbered(n int) (rows []float32, labels []int32) {
	for i := range n {
		rows = append(rows, float32(10*i), float32(10*i+1))
		labels = append(labels, int32(i))
	}
	return rows, labels
}

func TestLabelledGivesEveryRowOnceAnEpoch(t *testing.T) {
	rows, labels := numbered(12)
	l, err := NewLabelled(rows, labels, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	var orders [2][]int32
	for epoch := range orders {
		for range 3 {
			x, y := l.Next()
			for i, label := range y {
				if x[2*i] != float32(10*label) || x[2*i+1] != float32(10*label+1) {
					t.Fatalf("row %v with label %d", x[2*i:2*i+2], label)
				}
			}
			orders[epoch] = append(orders[epoch], y...)
		}
	}
	if slices.Equal(orders[0], orders[1]) {
		t.Error("two epochs in the same order")
	}
	for _, o := range orders {
		if slices.Sort(o); !slices.Equal(o, labels) {
			t.Errorf("an epoch of %v", o)
		}
	}
}

func TestLabelledGoesOnFromItsState(t *testing.T) {
	rows, labels := numbered(10)
	make := func() *Labelled {
		l, err := NewLabelled(rows, labels, 3, 9)
		if err != nil {
			t.Fatal(err)
		}
		l.Change(func(row []float32, rng *rand.Rand) { row[0] += rng.Float32() })
		return l
	}
	a, b := make(), make()
	for range 5 {
		a.Next()
	}
	saved, err := a.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(saved); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		x, y := a.Next()
		u, v := b.Next()
		if !slices.Equal(x, u) || !slices.Equal(y, v) {
			t.Fatalf("after the state: %v %v, want %v %v", u, v, x, y)
		}
	}
	if rows[0] != 0 {
		t.Error("a change reached the data")
	}
}

func TestLabelledRefuses(t *testing.T) {
	if _, err := NewLabelled(nil, nil, 1, 0); !errors.Is(err, ErrEmpty) {
		t.Errorf("no rows: %v", err)
	}
	if _, err := NewLabelled(make([]float32, 5), make([]int32, 2), 1, 0); !errors.Is(err, ErrFormat) {
		t.Errorf("5 numbers in 2 rows: %v", err)
	}
	if _, err := NewLabelled(make([]float32, 4), make([]int32, 2), 0, 0); err == nil {
		t.Error("batches of 0: no error")
	}
}

// A shifted image is the image seen through a moved frame.
func TestShift(t *testing.T) {
	const h, w, c = 3, 4, 2
	was := make([]float32, h*w*c)
	for i := range was {
		was[i] = float32(i + 1)
	}
	seen := map[[2]int]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		row := slices.Clone(was)
		Shift(h, w, 1)(row, rng)
		found := false
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				want := make([]float32, len(was))
				for i := range want {
					y, x := i/w%h-dy, i%w-dx
					if y >= 0 && y < h && x >= 0 && x < w {
						want[i] = was[i/(h*w)*h*w+y*w+x]
					}
				}
				if slices.Equal(row, want) {
					found, seen[[2]int{dy, dx}] = true, true
				}
			}
		}
		if !found {
			t.Fatalf("%v is no shift", row)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d of 9 shifts in 200 draws", len(seen))
	}
}
