package vision

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"tare/engine/data"
)

func mnist(t testing.TB) (training, test *data.Images) {
	t.Helper()
	training, err := data.MNIST(true)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no MNIST: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if test, err = data.MNIST(false); err != nil {
		t.Fatal(err)
	}
	return training, test
}

// first returns the first n images.
func first(m *data.Images, n int) *data.Images {
	part := *m
	part.N, part.Pixels, part.Labels = n, m.Pixels[:n*m.Rows*m.Cols], m.Labels[:n]
	return &part
}

type trainer func(context.Context, *data.Images, *data.Images, uint64, func(done, total int)) (Record, error)

func TestMNIST(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for a minute")
	}
	training, test := mnist(t)
	for _, c := range []struct {
		train    trainer
		accuracy float64
	}{{TrainMLP, 0.98}, {TrainCNN, 0.99}} {
		r, err := c.train(context.Background(), training, test, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		if r.Accuracy < c.accuracy {
			t.Errorf("%s: %.2f %% right, want %.2f %%", r.Name, 100*r.Accuracy, 100*c.accuracy)
		}
	}
}

// The other set-ups learn from a few images what chance does not know.
func TestSetupsLearn(t *testing.T) {
	if testing.Short() {
		t.Skip("trains two networks")
	}
	training, test := mnist(t)
	for _, c := range []struct {
		train    trainer
		images   int
		accuracy float64
	}{{TrainResNet, 2000, 0.5}, {TrainRNN, 6000, 0.7}} {
		r, err := c.train(context.Background(), first(training, c.images), first(test, 1000), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		if r.Accuracy < c.accuracy {
			t.Errorf("%s: %.1f %% right, want %.0f %%", r.Name, 100*r.Accuracy, 100*c.accuracy)
		}
	}
}
