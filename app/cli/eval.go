package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"tare/app/web"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/lab/bundle"
)

// evalVerb measures a model on held-out text and on tasks.
type evalVerb struct {
	Model   string   `arg:"" help:"A model folder, a .safetensors file, or bundled."`
	Adapter string   `placeholder:"DIR" help:"PEFT adapter folder to put on the model."`
	Text    []string `sep:"none" placeholder:"FILE" help:"Text or JSON-lines files to measure the loss on, or bundled:source, bundled:opticks."`
	Task    []string `sep:"none" placeholder:"NAME" help:"Questions with exact answers: arithmetic, or a JSON-lines file of prompts and completions."`
	Seq     int      `placeholder:"N" help:"Tokens a window; without it the model's positions, at most 512."`
	Limit   int      `placeholder:"N" help:"Most questions of a task."`
}

// Help shows examples.
func (*evalVerb) Help() string {
	return `The loss is in nats a token, over windows in which every token but the first is predicted once. Answers count when the greedy continuation up to the line's end is the right one. The bundled model is measured on its own held-out texts where nothing is named.

Examples:
  tare eval bundled
  tare eval path/to/model --adapter path/to/adapter --text heldout.txt
  tare eval bundled --task arithmetic --limit 100 --json`
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

type taskResult struct {
	Name       string  `json:"name"`
	ExactMatch float64 `json:"exact_match"`
	Questions  int     `json:"questions"`
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
	questions, err := questionsOf(name)
	if err != nil {
		return taskResult{}, err
	}
	if v.Limit > 0 && len(questions) > v.Limit {
		questions = questions[:v.Limit]
	}
	p := a.progress("eval "+filepath.Base(name), "questions")
	defer p.done()
	right, err := eval.ExactMatch(a.ctx, l.net, l.tok, questions, func(done, total int) { p.update(int64(done), int64(total), "") })
	return taskResult{name, right, len(questions)}, err
}

const arithmeticTask = "arithmetic"

func questionsOf(name string) ([]eval.Question, error) {
	var records []data.Record
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case name == arithmeticTask || name == bundledArithmetic:
		_, _, test := bundle.ArithmeticSplits(0, 0, arithmeticTest)
		records = arithmeticRecords(test)
	case ext == ".jsonl" || ext == ".ndjson":
		var err error
		if records, err = data.ReadJSONL(name); err != nil {
			return nil, err
		}
	default:
		return nil, usagef("no task %q; there is %s, or name a .jsonl file of prompts and completions", name, arithmeticTask)
	}
	questions := make([]eval.Question, len(records))
	for i, r := range records {
		if r.Completion == "" {
			return nil, fmt.Errorf("%s: record %d has no prompt and completion, which a task needs: %w", name, i+1, data.ErrFormat)
		}
		questions[i] = eval.Question{Prompt: r.Prompt, Answer: r.Completion}
	}
	return questions, nil
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
			rows = append(rows, []string{t.Name, percent(t.ExactMatch), fmt.Sprint(t.Questions)})
		}
		table(a.out, []string{"task", " exactly right", " questions"}, rows)
	}
}
