// Package prognosis predicts how long engines will last: it reads the files of C-MAPSS or
// simulates engines like them, makes a health indicator of their sensors, and predicts the
// remaining useful life from a hidden Markov model of the indicator or from the likeness
// of histories.
package prognosis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The columns of C-MAPSS: unit, cycle, three settings, 21 sensors.
const (
	Settings = 3
	Sensors  = 21
	columns  = 2 + Settings + Sensors
)

// ErrData marks files and fleets that nothing can be predicted from.
var ErrData = errors.New("unfit data")

// Unit is an engine: one row of settings and sensors a cycle. Left is how many cycles it
// had to live after the last row: 0 for one that ran to failure, −1 where unknown.
type Unit struct {
	ID       int
	Settings [][Settings]float64
	Sensors  [][Sensors]float64
	Left     int
}

// Cycles is how many cycles were seen.
func (u *Unit) Cycles() int { return len(u.Sensors) }

// ReadCMAPSS reads a subset of C-MAPSS, "FD001" to "FD004", from a folder that holds
// train_FD001.txt, test_FD001.txt and RUL_FD001.txt as they were published.
func ReadCMAPSS(folder, subset string) (train, test []Unit, err error) {
	open := func(kind string, read func(name string, r io.Reader) error) {
		if err != nil {
			return
		}
		path := filepath.Join(folder, kind+"_"+subset+".txt")
		var f *os.File
		if f, err = os.Open(path); err != nil {
			return
		}
		defer f.Close()
		err = read(path, f)
	}
	open("train", func(name string, r io.Reader) (err error) { train, err = ReadUnits(name, r); return })
	open("test", func(name string, r io.Reader) (err error) { test, err = ReadUnits(name, r); return })
	open("RUL", func(name string, r io.Reader) error { return readLeft(name, r, test) })
	if err != nil {
		return nil, nil, fmt.Errorf("prognosis: %w", err)
	}
	for i := range train {
		train[i].Left = 0
	}
	return train, test, nil
}

// ReadUnits reads a file of 26 columns parted by blanks. Units follow one another, and
// each one's cycles count from 1. name is what errors call the file.
func ReadUnits(name string, r io.Reader) ([]Unit, error) {
	var units []Unit
	lines := bufio.NewScanner(r)
	for line := 1; lines.Scan(); line++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("%s, line %d: %w: %s", name, line, ErrData, fmt.Sprintf(format, args...))
		}
		if len(fields) != columns {
			return nil, wrong("%d columns, C-MAPSS has %d", len(fields), columns)
		}
		var v [columns]float64
		for j, f := range fields {
			var err error
			if v[j], err = strconv.ParseFloat(f, 64); err != nil || math.IsNaN(v[j]) || math.IsInf(v[j], 0) {
				return nil, wrong("column %d is %q, want a finite number", j+1, f)
			}
		}
		id, cycle := v[0], v[1]
		if id != math.Trunc(id) || math.Abs(id) > 1e9 {
			return nil, wrong("unit %v is no whole number", id)
		}
		if len(units) == 0 || units[len(units)-1].ID != int(id) {
			units = append(units, Unit{ID: int(id), Left: -1})
		}
		u := &units[len(units)-1]
		if cycle != float64(u.Cycles()+1) {
			return nil, wrong("unit %d has cycle %v, want %d: its cycles count from 1 and stand together", u.ID, cycle, u.Cycles()+1)
		}
		u.Settings = append(u.Settings, [Settings]float64(v[2:2+Settings]))
		u.Sensors = append(u.Sensors, [Sensors]float64(v[2+Settings:]))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(units) == 0 {
		return nil, fmt.Errorf("%s: %w: it holds no unit", name, ErrData)
	}
	return units, nil
}

// readLeft reads the remaining lives, one a line, of the units of a test file.
func readLeft(name string, r io.Reader, units []Unit) error {
	lines := bufio.NewScanner(r)
	n := 0
	for line := 1; lines.Scan(); line++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		left, err := strconv.Atoi(text)
		if err != nil || left < 0 {
			return fmt.Errorf("%s, line %d: %w: %q is no number of cycles", name, line, ErrData, text)
		}
		if n < len(units) {
			units[n].Left = left
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n != len(units) {
		return fmt.Errorf("%s: %w: %d lives for %d units", name, ErrData, n, len(units))
	}
	return nil
}
