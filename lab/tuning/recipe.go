// Package tuning puts a checkpoint, a method, an optimizer and data together into
// one training run, as `tare tune`, `tare pretrain`, the quickstart and the papers'
// tune test all do. It trains nothing itself: the loop is engine/train's, what trains
// is the method's.
package tuning

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"tare/engine/grad"
	"tare/engine/nearest"
	"tare/engine/train"
	"tare/method/adapt"
	"tare/method/optim"
)

// ErrRecipe marks a recipe that asks for something impossible.
var ErrRecipe = errors.New("bad recipe")

// Full is the method that trains every parameter.
const Full = "full"

// How the weights that do not train are held.
const (
	BaseF32    = "f32"    // converted
	BaseStored = "stored" // as the checkpoint stores them, mapped and not copied
	BaseQ4     = "q4"     // rounded to 4 bits in groups of 64 on loading
)

// How the weights that train are held.
const (
	StorageF32        = "f32"
	StorageMaster     = "bf16-master"     // bfloat16, beside an f32 master copy
	StorageStochastic = "bf16-stochastic" // bfloat16, rounded by chance
)

// The precisions of matrix products.
const (
	PrecisionF32  = "f32"
	PrecisionBF16 = "bf16"
)

// Recipe is what a run needs to know beside model and data. Its fields are the flags
// of the command line and the keys of a recipe file.
type Recipe struct {
	Method  string            `yaml:"method" default:"lora" help:"What trains: full for everything, or one of ${methods}."`
	Options map[string]string `yaml:"options" short:"o" placeholder:"KEY=VALUE" help:"The method's own settings, such as -o rank=16."`
	Targets []string          `yaml:"targets" help:"Layers to adapt, by the last part of their name; all-linear (the default) for all."`
	Base    string            `yaml:"base" default:"f32" help:"How frozen weights are held: f32, stored (as in the file), q4 (4-bit)."`

	Training `yaml:",inline" embed:""`
}

// Training is the part of a recipe that says how the loop runs.
type Training struct {
	Optimizer   string  `yaml:"optimizer" default:"adamw" help:"One of ${optimizers}."`
	LR          float64 `yaml:"lr" name:"lr" default:"0.001" help:"Peak learning rate."`
	WeightDecay float64 `yaml:"weight_decay" default:"0" help:"Decoupled weight decay."`
	Beta2       float64 `yaml:"beta2" name:"beta2" default:"0.999" help:"AdamW's second-moment decay."`
	Momentum    float64 `yaml:"momentum" default:"0" help:"SGD's momentum."`
	Schedule    string  `yaml:"schedule" default:"cosine" help:"Learning rate after the warm-up: one of ${schedules}."`
	Warmup      int     `yaml:"warmup" default:"0" help:"Steps of linear warm-up; 0 takes a twentieth of all."`
	Floor       float64 `yaml:"floor" default:"0.1" help:"Where linear and cosine end, as a fraction of the peak rate."`
	Clip        float64 `yaml:"clip" default:"0" help:"Largest global gradient norm; 0 does not clip."`

	Steps      int    `yaml:"steps" default:"200" help:"Optimizer steps."`
	Batch      int    `yaml:"batch" default:"8" help:"Sequences in a micro-batch."`
	Accumulate int    `yaml:"accumulate" default:"1" help:"Micro-batches in a step."`
	SeqLen     int    `yaml:"seq_len" default:"256" help:"Tokens in a sequence; no more than the model's positions."`
	Precision  string `yaml:"precision" default:"f32" help:"Of matrix products: f32, or bf16 for bfloat16 operands with f32 sums and weights."`
	Storage    string `yaml:"storage" default:"f32" help:"Of the weights that full training changes: f32; bf16-master for bfloat16 beside f32 master copies; bf16-stochastic for bfloat16 alone, rounded up or down by chance."`
	Checkpoint bool   `yaml:"checkpoint" help:"Recompute each block's activations in the backward pass: less memory, more time."`

	Pack bool    `yaml:"pack" help:"Micro-batches of whole records, as many as fit into batch times seq_len tokens; none attends to another. Texts in records are documents then, not one running text."`
	EMA  float64 `yaml:"ema" name:"ema" default:"0" help:"Decay of an exponential moving average of what trains, such as 0.999; evaluations and the saved model are of the averages. 0 does not average."`

	EvalEvery int `yaml:"eval_every" default:"0" help:"Steps between evaluations; 0 evaluates before and after only."`
	SaveEvery int `yaml:"save_every" default:"0" help:"Steps between saves of the run's state; 0 saves only when interrupted."`
}

// Default returns the recipe of the tags' defaults.
func Default() Recipe {
	return Recipe{Method: "lora", Base: BaseF32, Training: Training{
		Optimizer: "adamw", LR: 1e-3, Beta2: 0.999, Schedule: "cosine", Floor: 0.1, Precision: PrecisionF32, Storage: StorageF32, Steps: 200, Batch: 8, Accumulate: 1, SeqLen: 256,
	}}
}

// Pretraining returns the recipe that trains every parameter so.
func Pretraining(t Training) Recipe { return Recipe{Method: Full, Base: BaseF32, Training: t} }

// Validate says all that is wrong at once, as one error that wraps ErrRecipe.
func (r *Recipe) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	positive := func(name string, v int) {
		if v < 1 {
			say("%s is %d, want at least 1", name, v)
		}
	}
	positive("steps", r.Steps)
	positive("batch", r.Batch)
	positive("accumulate", r.Accumulate)
	if r.SeqLen < 2 {
		say("seq_len is %d, want at least 2", r.SeqLen)
	}
	if !(r.LR > 0) || math.IsInf(r.LR, 0) {
		say("lr is %g, want a positive number", r.LR)
	}
	for name, v := range map[string]float64{"weight_decay": r.WeightDecay, "clip": r.Clip, "momentum": r.Momentum} {
		if !(v >= 0) || math.IsInf(v, 0) {
			say("%s is %g, want 0 or more", name, v)
		}
	}
	if !(r.Floor >= 0 && r.Floor <= 1) {
		say("floor is %g, want 0 to 1", r.Floor)
	}
	if !(r.Beta2 > 0 && r.Beta2 < 1) {
		say("beta2 is %g, want between 0 and 1", r.Beta2)
	}
	if r.Warmup < 0 || r.EvalEvery < 0 || r.SaveEvery < 0 {
		say("warmup, eval_every and save_every must not be negative")
	}
	if !slices.Contains([]string{BaseF32, BaseStored, BaseQ4}, r.Base) {
		say("base is %q, want f32, stored or q4", r.Base)
	}
	if r.Precision != PrecisionF32 && r.Precision != PrecisionBF16 {
		say("precision is %q, want f32 or bf16", r.Precision)
	}
	switch r.Storage {
	case StorageF32:
	case StorageMaster, StorageStochastic:
		if r.Method != Full {
			say("storage %s is for full training; what an adapter trains is small and stays f32", r.Storage)
		}
	default:
		say("storage is %q, want f32, bf16-master or bf16-stochastic", r.Storage)
	}
	if !(r.EMA >= 0 && r.EMA < 1) {
		say("ema is %g, want 0 to below 1", r.EMA)
	}
	if r.Method == Full && r.Base != BaseF32 {
		say("full fine-tuning changes every weight, so base must be f32")
	}
	if _, err := train.NewSchedule(r.Schedule, 0, 0); err != nil {
		say("%v", err)
	}
	if _, err := optim.ByName(r.Optimizer); err != nil {
		say("%v", err)
	}
	if _, _, err := r.method(); err != nil {
		say("%v", err)
	}
	if wrong == nil {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("tuning: %w: %s", ErrRecipe, strings.Join(wrong, "; "))
}

// method returns the adaptation method with its options set; zero for full.
func (r *Recipe) method() (adapt.Method, adapt.Options, error) {
	if r.Method == Full {
		if len(r.Options) > 0 {
			return adapt.Method{}, nil, errors.New("full fine-tuning has no options")
		}
		return adapt.Method{}, nil, nil
	}
	m, err := adapt.ByName(r.Method)
	if err != nil {
		return m, nil, fmt.Errorf("%w, or %q", err, Full)
	}
	o := m.New()
	if err := SetOptions(o, r.Options); err != nil {
		return m, nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	return m, o, o.Validate()
}

// SetOptions sets fields of the struct that o points to by their yaml names. What a
// method over another does not know is set in the other. An unknown name is refused
// with the nearest known one.
func SetOptions(o any, values map[string]string) error { return setOptions(o, values, nil) }

// setOptions is SetOptions where the names in above are known already.
func setOptions(o any, values map[string]string, above []string) error {
	known, err := optionNames(o)
	if err != nil {
		return err
	}
	outer, over := o.(adapt.Outer)
	doc, rest := "", map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains(known, key):
			doc += key + ": " + values[key] + "\n"
		case over:
			rest[key] = values[key]
		default:
			return unknownKey("option", key, append(known, above...))
		}
	}
	if err := decodeOptions(o, doc); err != nil || len(rest) == 0 {
		return err
	}
	inside, err := outer.Inside()
	if err != nil {
		return err
	}
	return setOptions(inside, rest, append(known, above...))
}

// decodeOptions reads a YAML mapping into a struct.
func decodeOptions(o any, doc string) error {
	if doc == "" {
		return nil
	}
	if err := yaml.Unmarshal([]byte(doc), o); err != nil {
		return fmt.Errorf("%s", yaml.FormatError(err, false, false))
	}
	return nil
}

func unknownKey(what, key string, known []string) error {
	if near := nearest.Of(key, known); near != "" {
		return fmt.Errorf("unknown %s %q, did you mean %q?", what, key, near)
	}
	return fmt.Errorf("unknown %s %q (known: %s)", what, key, strings.Join(known, ", "))
}

// optionNames lists the yaml names of a struct's fields.
func optionNames(o any) ([]string, error) {
	raw, err := yaml.Marshal(o)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := yaml.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(m)), nil
}

// optimizer builds the optimizer that the recipe names.
func (r *Training) optimizer(l *grad.Ledger, seed uint64) (train.Optimizer, error) {
	m, err := optim.ByName(r.Optimizer)
	if err != nil {
		return nil, err
	}
	o := m.New(optim.Options{Beta2: r.Beta2, Decay: r.WeightDecay, Momentum: r.Momentum}, l)
	if r.Storage == StorageF32 {
		return o, nil
	}
	return &optim.Mixed{Inner: o, Stochastic: r.Storage == StorageStochastic, Seed: seed, Ledger: l}, nil
}

// warmup returns the steps of warm-up.
func (r *Training) warmup() int {
	if r.Warmup > 0 {
		return r.Warmup
	}
	return r.Steps / 20
}
