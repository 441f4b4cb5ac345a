package lab

import (
	"context"
	"math"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/lab/vision"
)

// The images of a quick run.
const quickTraining, quickTest = 6000, 2000

// mnist is the engine's own experiment, not a paper's: an MLP and a convolutional network
// learn handwritten digits from set-ups that were fixed beforehand (see [vision]). Each
// trains within about a minute on two idle cores; seconds stand in the record and are not judged, as
// they are the machine's.
func mnist() Experiment {
	return Experiment{
		Slug:   "mnist",
		Claim:  "After about a minute of training on two cores or less, an MLP tells 98 % and a small CNN 99 % of MNIST's test digits, and the CNN more than the MLP.",
		Figure: Figure{"test accuracy", "%", Higher},
		Arms: []Arm{
			{"cnn", Method, digits(vision.TrainCNN)},
			{"mlp", Baseline, digits(vision.TrainMLP)},
		},
		Seeds: 3, QuickSeeds: 2,
		Rule: All(Reaches("mlp", 98), Reaches("cnn", 99), Beats("cnn", "mlp")),
	}
}

// digits measures one of vision's set-ups.
func digits(train func(ctx context.Context, training, test *data.Images, seed uint64, progress func(done, total int)) (vision.Record, error)) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		training, test, err := readDigits()
		if err != nil {
			return Measurement{}, err
		}
		if e.Quick {
			training, test = firstImages(training, quickTraining), firstImages(test, quickTest)
		}
		r, err := train(ctx, training, test, seed, func(done, total int) { e.Step(done, total, "") })
		if err != nil {
			return Measurement{}, err
		}
		return Measurement{
			Value: math.Round(1e6*r.Accuracy) / 1e4, Trainable: r.Trainable, Seconds: r.Seconds, Peak: peakOf(r.Peak),
			Extra: map[string]float64{"images a second": r.PerSecond},
		}, nil
	}
}

func peakOf(p grad.Peak) map[string]int64 {
	return map[string]int64{Weights: p.Weights, Gradients: p.Gradients, Optimizer: p.Optimizer, Activations: p.Activations, Scratch: p.Scratch}
}
