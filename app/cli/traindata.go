package cli

import (
	"fmt"
	"strings"

	"tare/engine/data"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/lab/tuning"
)

// learn is what a run trains on and is measured on: running text or records.
type learn struct {
	train, valid     string
	trainRec, valRec []data.Record
	documents        bool // texts in records stay records
}

// heldOut is the share of a file that is kept for measuring when no file is named for
// it.
const heldOut = 0.05

// The texts and tasks inside the program.
const (
	bundledSource     = "bundled:source"
	bundledOpticks    = "bundled:opticks"
	bundledArithmetic = "bundled:arithmetic"
)

// readLearn reads files of text or of records, or a bundled set by its name. Texts in
// records are running text, or documents to be packed.
func (a *app) readLearn(names []string, valid string, pack bool) (*learn, error) {
	if len(names) == 0 {
		return nil, usagef("name what to learn from with --data")
	}
	l := &learn{documents: pack}
	for _, name := range names {
		if err := l.add(name, &l.train, &l.trainRec); err != nil {
			return nil, err
		}
	}
	if pack && l.train != "" {
		return nil, usagef("--pack puts whole documents together, and running text has none; name records, such as JSON lines of {\"text\": …}")
	}
	if l.train != "" && l.trainRec != nil {
		return nil, usagef("--data mixes running text and records with prompts; train on one kind at a time")
	}
	if valid != "" {
		if err := l.addValid(valid); err != nil {
			return nil, err
		}
		if (l.trainRec == nil) != (l.valRec == nil) {
			return nil, usagef("--data and --valid are of different kinds: running text is measured on running text, records on records")
		}
		return l, nil
	}
	if len(names) == 1 && strings.HasPrefix(names[0], "bundled:") {
		return l, l.bundledValid(names[0])
	}
	if l.trainRec != nil {
		n := max(1, int(heldOut*float64(len(l.trainRec))))
		if n >= len(l.trainRec) {
			return l, nil
		}
		l.trainRec, l.valRec = l.trainRec[:len(l.trainRec)-n], l.trainRec[len(l.trainRec)-n:]
	} else {
		at := len(l.train) - int(heldOut*float64(len(l.train)))
		if nl := strings.IndexByte(l.train[at:], '\n'); nl >= 0 {
			at += nl + 1
		}
		l.train, l.valid = l.train[:at], l.train[at:]
	}
	a.remark("The last %.0f %% of the data is held out for measuring; name a file with --valid to choose it.", 100*heldOut)
	return l, nil
}

func (l *learn) add(name string, running *string, records *[]data.Record) error {
	switch {
	case name == bundledSource:
		*running += bundle.Source(bundle.Train)
		return nil
	case name == bundledOpticks:
		*running += bundle.Opticks(bundle.Train)
		return nil
	case name == bundledArithmetic:
		train, _, _ := bundle.ArithmeticSplits(arithmeticTrain, arithmeticValid, arithmeticTest)
		*records = append(*records, bundle.Records(train)...)
		return nil
	case strings.HasPrefix(name, "bundled:"):
		return usagef("no bundled data %q (there are %s, %s, %s)", name, bundledSource, bundledOpticks, bundledArithmetic)
	}
	if data.HasRecords(name) {
		rs, err := data.ReadRecords(name)
		if err != nil {
			return err
		}
		if len(rs) > 0 && rs[0].Completion == "" && !l.documents { // running text, one document a line
			for _, r := range rs {
				*running += r.Text + "\n"
			}
			return nil
		}
		*records = append(*records, rs...)
		return nil
	}
	t, err := data.ReadText(name)
	*running += t
	return err
}

func (l *learn) addValid(name string) error {
	if strings.HasPrefix(name, "bundled:") {
		return l.bundledValid(name)
	}
	return l.add(name, &l.valid, &l.valRec)
}

func (l *learn) bundledValid(name string) error {
	switch name {
	case bundledSource:
		l.valid = bundle.Source(bundle.Valid)
	case bundledOpticks:
		l.valid = bundle.Opticks(bundle.Valid)
	case bundledArithmetic:
		_, valid, _ := bundle.ArithmeticSplits(arithmeticTrain, arithmeticValid, arithmeticTest)
		l.valRec = bundle.Records(valid)
	default:
		return usagef("no bundled data %q (there are %s, %s, %s)", name, bundledSource, bundledOpticks, bundledArithmetic)
	}
	return nil
}

// How many arithmetic problems the bundled task has.
const arithmeticTrain, arithmeticValid, arithmeticTest = 4000, 200, 400

// bytes is the length of what is learnt from.
func (l *learn) bytes() int64 {
	n := len(l.train)
	for _, r := range l.trainRec {
		n += len(r.Text) + len(r.Prompt) + len(r.Completion)
	}
	return int64(n)
}

// prepare tokenizes what was read.
func (l *learn) prepare(tok *text.Tokenizer, r tuning.Recipe, seed uint64) (tuning.Data, error) {
	if l.trainRec != nil {
		return tuning.RecordData(tok, l.trainRec, l.valRec, r, -1, seed)
	}
	if l.train == "" {
		return tuning.Data{}, fmt.Errorf("no training data: %w", data.ErrEmpty)
	}
	return tuning.TextData(tok, l.train, l.valid, r, seed)
}
