// Answers what Go's regexp does: one question a line, one answer a line. See re2.rs beside it.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"regexp/syntax"
	"strings"
)

func text(given string) string {
	bytes, err := hex.DecodeString(given)
	if err != nil {
		panic(err)
	}
	return string(bytes)
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		pattern, template := text(fields[0]), text(fields[1])
		re, err := regexp.Compile(pattern)
		if err != nil {
			fmt.Fprintf(out, "%x\n", err.Error())
			continue
		}
		// As Prometheus makes label matchers.
		parsed, err := syntax.Parse(pattern, syntax.Perl|syntax.DotNL)
		if err != nil {
			panic(err)
		}
		anchored := regexp.MustCompile("^(?s:" + parsed.Simplify().String() + ")$")
		fmt.Fprintf(out, "ok %s", strings.Join(re.SubexpNames(), ","))
		for _, field := range fields[2:] {
			given := text(field)
			spans := strings.Trim(strings.ReplaceAll(fmt.Sprint(re.FindStringSubmatchIndex(given)), " ", ","), "[]")
			fmt.Fprintf(out, " %s/%v/%d/%x", spans, anchored.MatchString(given),
				len(re.FindAllStringIndex(given, -1)), re.ReplaceAllString(given, template))
		}
		fmt.Fprintln(out)
	}
}
