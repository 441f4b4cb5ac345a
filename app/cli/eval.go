package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tare/app/web"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/lab/bundle"
)

// evalVerb measures a model on held-out text and on tasks.
type evalVerb struct {
	Model   string   `arg:"" help:"A model folder, a .safetensors or .gguf file, or bundled."`
	Adapter string   `placeholder:"DIR" help:"PEFT adapter folder to put on the model."`
	Text    []string `sep:"none" placeholder:"FILE" help:"Text or JSON-lines files to measure the loss on, or bundled:source, bundled:opticks."`
	Task    []string `sep:"none" placeholder:"NAME" help:"A task file (YAML or JSON lines, see below), arithmetic, or bundled:cloze."`
	Data    []string `sep:"none" placeholder:"FILE" help:"What to measure a classifier on, as tare tune learns it: records of text and label, or a folder with a folder of images for each class."`
	Seq     int      `placeholder:"N" help:"Tokens a window; without it the model's positions, at most 512."`
	Limit   int      `placeholder:"N" help:"Most items of a task."`
}

// Help shows examples.
func (*evalVerb) Help() string {
	return `The loss is in nats a token, over windows in which every token but the first is predicted once. The bundled model is measured on its own held-out texts where nothing is named.

A task is a YAML file with a kind and either items or data, the name of a file of them:
  kind: multiple_choice    items of context, choices, answer (the choice, or its number from 0)
  kind: classification     items of text, label; labels: [good, bad]; template: "{text} It is"
  kind: exact_match        items of prompt, completion
  kind: perplexity         items of text
or a JSON-lines file of such items, with choices or with prompts. Tasks are measured as lm-evaluation-harness does: acc takes the choice with the greatest log-likelihood after the context and the delimiter (a space, unless the file says otherwise), acc_norm the greatest by byte of the choice; an exact match is the greedy continuation up to the line's end. bundled:cloze asks which of four sentences of Newton's Opticks comes next.

Examples:
  tare eval bundled
  tare eval path/to/model --adapter path/to/adapter --text heldout.txt
  tare eval bundled --task arithmetic --limit 100 --json
  tare eval bundled --task bundled:cloze --task colours.yaml
  tare eval path/to/bert-classifier --adapter path/to/adapter --data mails.csv`
}

// evaluated is the result as JSON.
type evaluated struct {
	Model   string       `json:"model"`
	Adapter string       `json:"adapter,omitempty"`
	Seq     int          `json:"seq"`
	Texts   []textResult `json:"texts"`
	Tasks   []taskResult `json:"tasks"`
	Seconds float64      `json:"seconds"`
}

type textResult struct {
	Name string `json:"name"`
	eval.LossResult
}

// taskResult writes its metrics as keys beside the name, each with its standard error
// where it has one.
type taskResult struct{ eval.TaskResult }

// MarshalJSON implements json.Marshaler.
func (t taskResult) MarshalJSON() ([]byte, error) {
	doc := map[string]any{"name": t.Name, "kind": t.Kind, "questions": t.Items}
	for _, m := range t.Metrics {
		doc[m.Name] = m.Value
		if m.StdErr > 0 {
			doc[m.Name+"_stderr"] = m.StdErr
		}
	}
	return json.Marshal(doc)
}

// windowTokens is about how many tokens are run at once.
const windowTokens = 2048

// noEnd asks for no token after a completion, as in tuning.
const noEnd = -1

// Run implements the verb.
func (v *evalVerb) Run(a *app) error {
	if v.Seq < 0 || v.Limit < 0 {
		return usagef("--seq %d, --limit %d: want 1 or more", v.Seq, v.Limit)
	}
	if len(v.Data) > 0 {
		return v.classes(a)
	}
	if len(v.Text) == 0 && len(v.Task) == 0 {
		if v.Model != bundled {
			return usagef("name something to measure with --text FILE or --task NAME")
		}
		v.Text = []string{bundledSource, bundledOpticks}
	}
	l, err := loadModel("eval", v.Model, v.Adapter)
	if err != nil {
		return err
	}
	defer l.Close()
	positions := l.net.Info().MaxPositions
	if v.Seq > positions {
		return usagef("--seq %d is longer than the model's %d positions", v.Seq, positions)
	}
	if v.Seq == 0 {
		v.Seq = min(positions, 512)
	}
	began := time.Now()
	r := &evaluated{Model: v.Model, Adapter: v.Adapter, Seq: v.Seq, Texts: []textResult{}, Tasks: []taskResult{}}
	for _, name := range v.Text {
		result, err := v.loss(a, l, name)
		if err != nil {
			return err
		}
		r.Texts = append(r.Texts, textResult{name, result})
	}
	for _, name := range v.Task {
		result, err := v.answers(a, l, name)
		if err != nil {
			return err
		}
		r.Tasks = append(r.Tasks, result)
	}
	r.Seconds = time.Since(began).Seconds()
	if a.JSON {
		return a.printJSON(r)
	}
	r.print(a)
	return nil
}

// loss measures one text: running text in windows, records by their completions.
func (v *evalVerb) loss(a *app, l *loaded, name string) (eval.LossResult, error) {
	var set learn
	var err error
	switch name {
	case bundledSource:
		set.valid = bundle.Source(bundle.Test)
	case bundledOpticks:
		set.valid = bundle.Opticks(bundle.Test)
	default:
		err = set.addValid(name)
	}
	if err != nil {
		return eval.LossResult{}, err
	}
	batch := max(1, windowTokens/v.Seq)
	var batches []*data.Batch
	if set.valRec != nil {
		var examples []data.Example
		if examples, err = data.Tokenize(l.tok, set.valRec, v.Seq, noEnd); err == nil {
			batches, err = data.ExampleBatches(examples, batch)
		}
	} else {
		batches, err = data.WindowBatches(l.tok.EncodeOrdinary(set.valid), v.Seq, batch)
	}
	if err != nil {
		return eval.LossResult{}, fmt.Errorf("%s: %w", name, err)
	}
	p := a.progress("eval "+filepath.Base(name), "batches")
	defer p.done()
	return eval.Loss(a.ctx, l.net, batches, len(set.valid), func(done, total int) { p.update(int64(done), int64(total), "") })
}

// answers measures one task.
func (v *evalVerb) answers(a *app, l *loaded, name string) (taskResult, error) {
	task, err := readTask(name)
	if err != nil {
		return taskResult{}, err
	}
	if v.Limit > 0 && len(task.Items) > v.Limit {
		task.Items = task.Items[:v.Limit]
	}
	p := a.progress("eval "+filepath.Base(name), "items")
	defer p.done()
	r, err := task.Measure(a.ctx, l.net, l.tok, v.Seq, func(done, total int) { p.update(int64(done), int64(total), "") })
	return taskResult{r}, err
}

// The tasks inside the program.
const (
	arithmeticTask = "arithmetic"
	bundledCloze   = "bundled:cloze"
	clozeQuestions = 200
)

// readTask reads a task file, or makes one of those inside the program.
func readTask(name string) (*eval.Task, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case name == arithmeticTask || name == bundledArithmetic:
		t := &eval.Task{Name: name, Kind: eval.Exact}
		_, _, test := bundle.ArithmeticSplits(0, 0, arithmeticTest)
		for _, p := range test {
			t.Items = append(t.Items, eval.Item{Prompt: p.Prompt(), Completion: p.Completion()})
		}
		return t, nil
	case name == bundledCloze:
		t := &eval.Task{Name: name, Kind: eval.MultipleChoice}
		for _, q := range bundle.OpticksCloze(clozeQuestions) {
			t.Items = append(t.Items, eval.Item{Context: q.Context, Choices: q.Choices, Answer: q.Answer})
		}
		return t, nil
	case slices.Contains([]string{".yaml", ".yml", ".jsonl", ".ndjson"}, ext):
		t, err := eval.ReadTask(name)
		if err == nil && ext != ".yaml" && ext != ".yml" {
			t.Name = name
		}
		return t, err
	}
	return nil, usagef("no task %q; there are %s and %s, or name a .yaml or .jsonl file (tare eval --help shows one)", name, arithmeticTask, bundledCloze)
}

func (r *evaluated) print(a *app) {
	if len(r.Texts) > 0 {
		var rows [][]string
		for _, t := range r.Texts {
			bits := "–"
			if t.BitsPerByte > 0 {
				bits = fmt.Sprintf("%.4f", t.BitsPerByte)
			}
			rows = append(rows, []string{t.Name, fmt.Sprintf("%.4f", t.Loss), web.Number(t.Perplexity), bits, fmt.Sprint(t.Tokens)})
		}
		table(a.out, []string{"text", " loss", " perplexity", " bits a byte", " tokens"}, rows)
	}
	if len(r.Tasks) > 0 {
		var rows [][]string
		for _, t := range r.Tasks {
			for _, m := range t.Metrics {
				value := web.Number(m.Value)
				if t.Kind != eval.Perplexity {
					value = percent(m.Value) + " ± " + percent(m.StdErr)
				}
				rows = append(rows, []string{t.Name, m.Name, value, fmt.Sprint(t.Items)})
			}
		}
		table(a.out, []string{"task", "metric", " value", " items"}, rows)
	}
}
