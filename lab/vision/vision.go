// Package vision trains small image classifiers on MNIST's handwritten digits from
// fixed set-ups and says what came of it: how many test images are right, and in how
// many seconds.
//
// [TrainMLP] is a network of linear layers, [TrainCNN] one of convolutions with batch
// norms, [TrainResNet] a 20-layer residual network and [TrainRNN] an LSTM that reads an
// image row by row. Each takes the data as it is read by data.MNIST:
//
//	train, _ := data.MNIST(true)
//	test, _ := data.MNIST(false)
//	r, err := vision.TrainCNN(ctx, train, test, 1, nil)
//	fmt.Println(r)
package vision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/train"
	"tare/method/optim"
)

// Record is what a run came to.
type Record struct {
	Name      string    `json:"name"`
	Accuracy  float64   `json:"accuracy"` // of the test images, 0 to 1
	Images    int       `json:"images"`   // test images
	Epochs    int       `json:"epochs"`
	Seconds   float64   `json:"seconds"` // of training, without the evaluation
	PerSecond float64   `json:"images_per_second"`
	Trainable int64     `json:"trainable"`
	Seed      uint64    `json:"seed"`
	Peak      grad.Peak `json:"peak_bytes"`
}

// String returns the record in a sentence.
func (r Record) String() string {
	return fmt.Sprintf("%s: %.2f %% of %d test images right after %d epochs in %.0f s (%.0f images/s)", r.Name, 100*r.Accuracy, r.Images, r.Epochs, r.Seconds, r.PerSecond)
}

// setup is everything that a run depends on beside the data.
type setup struct {
	name      string
	epochs    int
	batch     int
	lr        float64 // peak of a cosine that ends at a hundredth
	shift     int     // pixels that training images are moved by at most
	smoothing float32
	clip      float64
	build     func(i model.Images, seed uint64) (network, error)
	optimizer func(l *grad.Ledger) train.Optimizer
}

// network is a classifier that trains.
type network interface {
	train.Classifier
	Params() []*grad.Param
}

func adamw(decay float64) func(l *grad.Ledger) train.Optimizer {
	return func(l *grad.Ledger) train.Optimizer { return optim.NewAdamW(decay, l) }
}

// TrainMLP trains 784 → 512 → 256 → 10 with ReLU.
func TrainMLP(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (Record, error) {
	return setup{
		name: "mlp", epochs: 10, batch: 128, lr: 1e-3, optimizer: adamw(0.01),
		build: func(i model.Images, seed uint64) (network, error) {
			return model.NewMLP([]int{i.Height * i.Width * i.Channels, 512, 256, i.Classes}, seed)
		},
	}.run(ctx, training, test, seed, progress)
}

// TrainCNN trains four 3×3 convolutions with batch norms in two stages, on images that
// are shifted by up to two pixels.
func TrainCNN(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (Record, error) {
	_, r, err := CNN(ctx, training, test, seed, progress)
	return r, err
}

// CNN is TrainCNN, and returns the network too.
func CNN(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (*model.CNN, Record, error) {
	var m *model.CNN
	r, err := setup{
		name: "cnn", epochs: 3, batch: 100, lr: 3e-3, shift: 2, optimizer: adamw(0.01),
		build: func(i model.Images, seed uint64) (_ network, err error) {
			m, err = model.NewCNN(model.CNNOptions{Images: i, Stages: [][]int{{16}, {32, 32}, {64}}, Norm: "batch", Flatten: true}, seed)
			return m, err
		},
	}.run(ctx, training, test, seed, progress)
	return m, r, err
}

// TrainResNet trains a ResNet-20.
func TrainResNet(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (Record, error) {
	return setup{
		name: "resnet20", epochs: 2, batch: 128, lr: 0.1, shift: 2,
		optimizer: func(l *grad.Ledger) train.Optimizer { return &optim.SGD{Momentum: 0.9, Decay: 1e-4, Ledger: l} },
		build: func(i model.Images, seed uint64) (network, error) {
			return model.NewResNet(model.ResNet20(i), seed)
		},
	}.run(ctx, training, test, seed, progress)
}

// TrainRNN trains an LSTM of 128 units on the rows of an image, one after another.
func TrainRNN(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (Record, error) {
	return setup{
		name: "lstm", epochs: 4, batch: 128, lr: 3e-3, clip: 1, optimizer: adamw(0.01),
		build: func(i model.Images, seed uint64) (network, error) {
			m, err := model.NewRNN(model.RNNOptions{Cell: nn.LSTM, Width: i.Width, Hidden: 128, Layers: 1, Out: i.Classes}, seed)
			return model.Rows{RNN: m}, err
		},
	}.run(ctx, training, test, seed, progress)
}

// run trains and then counts the test images that are right. progress may be nil.
func (s setup) run(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (Record, error) {
	r := Record{Name: s.name, Images: test.N, Epochs: s.epochs, Seed: seed}
	m, err := s.build(model.Images{Height: training.Rows, Width: training.Cols, Channels: max(1, training.Channels), Classes: int(slices.Max(training.Labels)) + 1}, seed)
	if err != nil {
		return r, err
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	r.Trainable = train.Trainable(m.Params())
	source, err := data.NewLabelled(training.Pixels, training.Labels, s.batch, seed)
	if err != nil {
		return r, err
	}
	if s.shift > 0 {
		source.Change(data.Shift(training.Rows, training.Cols, s.shift))
	}
	steps := s.epochs * training.N / s.batch
	schedule, err := train.NewSchedule("cosine", steps/20, 0.01)
	if err != nil {
		return r, err
	}
	ledger := &grad.Ledger{}
	loop := train.Loop{
		Task: &train.Classify{Model: m, Source: source, Smoothing: s.smoothing}, Params: m.Params(), Optimizer: s.optimizer(ledger),
		Options: train.Options{Steps: steps, LR: s.lr, Schedule: schedule, Seed: seed, Clip: s.clip}, Tape: grad.NewTape(ledger),
	}
	if progress != nil {
		loop.Hooks = append(loop.Hooks, train.AfterStep(func(l *train.Loop) { progress(l.Step, l.Options.Steps) }))
	}
	begin := time.Now()
	if err := loop.Run(ctx); err != nil {
		return r, fmt.Errorf("vision: %s: %w", s.name, err)
	}
	r.Seconds = time.Since(begin).Seconds()
	r.PerSecond = float64(steps*s.batch) / r.Seconds
	r.Peak = ledger.Peak()
	scores, classes := train.Scores(m, test.Pixels, test.N, 500)
	r.Accuracy = eval.Accuracy(scores, classes, test.Labels)
	return r, nil
}
