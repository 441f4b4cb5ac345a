// Package cli is the command line: one file a verb that parses, calls the library
// and prints. No algorithm lives here.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/generate"
	"tare/engine/model"
	"tare/engine/tensor/kernel"
	"tare/engine/text"
	"tare/engine/train"
	"tare/lab/catalog"
	"tare/lab/compare"
	"tare/lab/fitting"
	"tare/lab/record"
	"tare/lab/tuning"
	"tare/method/adapt"
	"tare/method/merge"
	"tare/method/optim"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitBadInput    = 3
	exitInterrupted = 130
)

// Globals are the flags of every verb.
type Globals struct {
	JSON    bool   `help:"Print the result as JSON on standard output."`
	Quiet   bool   `short:"q" help:"No progress."`
	Seed    uint64 `help:"Seed of everything random." default:"1"`
	Threads int    `help:"Threads to compute with; 0 means all cores." default:"0"`
	Memory  size   `help:"Memory to stay under where that is possible, such as 2GiB: buffers shrink and garbage goes sooner." placeholder:"SIZE"`
}

// size is a number of bytes, written as 1500, 1.5GiB or 500MB.
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n < 1<<20 || n > 1<<60 {
		return fmt.Errorf("%q is no amount of memory; write 2GiB or 500MB, at least 1MiB", text)
	}
	*s = size(n)
	return nil
}

// verbs is the command line's grammar.
type verbs struct {
	Globals
	Quickstart quickstartVerb `cmd:"" help:"The main job on the embedded default: tune, quantize, merge, evaluate, report."`
	Inspect    inspect        `cmd:"" help:"What is in a checkpoint."`
	Diff       diff           `cmd:"" help:"What changed between two checkpoints."`
	Tune       tune           `cmd:"" help:"Fine-tune a model, whole or through an adapter."`
	Compare    compareVerb    `cmd:"" help:"Adaptation methods side by side, at one budget."`
	Pretrain   pretrain       `cmd:"" help:"Train a model from nothing."`
	Quantize   quantize       `cmd:"" help:"Store a model's weights in fewer bits."`
	Convert    convert        `cmd:"" help:"Rewrite a model as a GGUF file or as a folder."`
	Merge      mergeVerb      `cmd:"" help:"Make one model of several, by a mergekit recipe."`
	Eval       evalVerb       `cmd:"" help:"Loss, perplexity and answers of a model."`
	Generate   generateV      `cmd:"" help:"Continue a prompt."`
	Embed      embed          `cmd:"" help:"Texts as vectors, by an encoder."`
	Fit        fit            `cmd:"" help:"Fit a statistical model to a table."`
	Predict    predict        `cmd:"" help:"Apply a fitted model to a table."`
	Chat       chatVerb       `cmd:"" help:"Talk with a model."`
	Papers     papers         `cmd:"" help:"The catalog: every paper, its state and claim."`
	Reproduce  reproduce      `cmd:"" help:"Measure papers' claims against their baselines on this machine."`
	Bench      benchVerb      `cmd:"" help:"Speed of the engine, beside peers where they are installed."`
	Version    versionCmd     `cmd:"" help:"Version, processor and kernel path."`

	CompareWorker compareWorker `cmd:"" hidden:"" help:"One cell of a comparison, for tare compare."`
}

// app is what a verb runs with.
type app struct {
	Globals
	ctx    context.Context
	in     io.Reader
	out    io.Writer // results
	errOut io.Writer // progress and remarks
}

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, in, out, errOut)
}

// exited carries the code that kong asks to exit with, for help.
type exited int

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(exited); ok {
				code = int(e)
				return
			}
			panic(r)
		}
	}()
	var v verbs
	parser, err := kong.New(&v, kong.Name("tare"),
		kong.Description("A weights workbench: inspect, tune, quantize, merge, evaluate and measure model checkpoints.\n\nRun \"tare quickstart\" first: it needs no files."),
		kong.Writers(out, errOut), helpWords(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { panic(exited(code)) }))
	if err != nil {
		fmt.Fprintln(errOut, "tare:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errOut, "tare: %v\n", err)
		return exitUsage
	}
	if v.Threads < 0 {
		fmt.Fprintf(errOut, "tare: --threads %d, want 0 or more\n", v.Threads)
		return exitUsage
	}
	if v.Threads > 0 {
		kernel.SetThreads(v.Threads)
	}
	limitMemory(int64(v.Memory))
	a := &app{Globals: v.Globals, ctx: ctx, in: in, out: out, errOut: errOut}
	if err := k.Run(a); err != nil {
		fmt.Fprintf(errOut, "tare: %v\n", err)
		return codeOf(err)
	}
	return exitDone
}

// limitMemory collects garbage early: what a step leaves behind is small beside the
// buffers that stay, so waiting for the heap to double would only cost memory.
func limitMemory(limit int64) {
	const percent = 25
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
}

// helpWords fills the lists of known names into the flags' helps.
func helpWords() kong.Vars {
	var methods, optimizers, fits []string
	for _, m := range adapt.Methods() {
		methods = append(methods, m.Name)
	}
	for _, m := range optim.Methods() {
		optimizers = append(optimizers, m.Name)
	}
	for _, m := range fitting.Methods() {
		fits = append(fits, m.Name)
	}
	return kong.Vars{
		"methods": strings.Join(methods, ", "), "optimizers": strings.Join(optimizers, ", "), "fits": strings.Join(fits, ", "), "schedules": strings.Join(train.Schedules(), ", "),
	}
}

// errUsage marks a mistake in flags or a recipe.
var errUsage = errors.New("wrong usage")

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUsage, fmt.Errorf(format, args...))
}

// badInput is an error that a file which was read is to blame for.
type badInput struct{ error }

func (e badInput) Unwrap() error { return e.error }

// usageErrors are mistakes in what was asked for.
var usageErrors = []error{errUsage, catalog.ErrUnknown, adapt.ErrNoTarget, adapt.ErrFit, tuning.ErrRecipe, compare.ErrRecipe, merge.ErrRecipe, merge.ErrWeights, generate.ErrTooLong, fs.ErrExist}

// inputErrors are faults of files that were read.
var inputErrors = []error{
	fs.ErrNotExist, checkpoint.ErrFormat, checkpoint.ErrMissing, checkpoint.ErrNonFinite,
	model.ErrConfig, model.ErrMissing, model.ErrShape, model.ErrNonFinite,
	text.ErrFormat, data.ErrEmpty, data.ErrFormat, merge.ErrMismatch, record.ErrFormat, eval.ErrTask,
}

// codeOf maps an error to the exit code that the design gives it.
func codeOf(err error) int {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return exitInterrupted
	}
	for _, usage := range slices.Concat(usageErrors, fitting.UsageErrors()) {
		if errors.Is(err, usage) {
			return exitUsage
		}
	}
	if errors.As(err, new(badInput)) {
		return exitBadInput
	}
	for _, bad := range slices.Concat(inputErrors, fitting.InputErrors()) {
		if errors.Is(err, bad) {
			return exitBadInput
		}
	}
	return exitFailed
}

// printJSON writes v as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// remark prints a line for the person watching, unless quiet.
func (a *app) remark(format string, args ...any) {
	if !a.Quiet {
		fmt.Fprintf(a.errOut, format+"\n", args...)
	}
}
