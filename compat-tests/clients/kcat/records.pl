#!/usr/bin/perl
# The records of the scenarios, as input for kcat and compared with what it read.
#   records.pl bytes <seed> <n> | text <i>           the generator of SCENARIOS.md
#   records.pl input <kind> [arguments]              records as kcat reads them: key "<|key|>" value "<|end|>"
#   records.pl check <kind> <output> [arguments]     what kcat wrote with FORMAT of run.sh; silent and 0, or a message and 1
# kinds: keyed <count>, odd <count>, interop <count> <profile> <without>, numbered <first> <count>, timed <first> <count>, shapes
use strict;
use warnings;
use bytes;

my $HEADS = 24 * 3_600_000;    # milliseconds in which a timestamp must lie

sub generate {
    my ($seed, $n) = @_;
    my $x = (($seed ^ 0x9E3779B9) & 0xFFFFFFFF) || 1;
    my $out = '';
    for (1 .. $n) {
        $x ^= ($x << 13) & 0xFFFFFFFF;
        $x ^= $x >> 17;
        $x ^= ($x << 5) & 0xFFFFFFFF;
        $out .= chr($x & 0xFF);
    }
    return $out;
}

sub text { my ($i) = @_; return "value-$i-" x ($i % 50 + 1) }

# kcat shows a header's value up to the first zero byte.
sub seen { return $_[0] =~ s/\0.*//sr }

# One record as { key, value, headers, shift }: undef is null, headers as kcat shows them, shift is the time after the first.
sub interop {
    my ($i, $profile) = @_;
    return { key => "key-$i", value => text($i), headers => '' } if $profile eq 'plain';
    my $digit = $i % 10;
    my $key   = $digit == 3 ? undef : $digit == 7 ? '' : "key-$i";
    my $value = $digit == 5 ? undef : $digit == 9 ? '' : $digit == 0 ? generate($i, 1000) : text($i);
    my $headers = ('', "h=v-$i", 'h=a,h=b,other=', 'null=NULL,bin=' . seen(generate($i, 16)))[$i % 4];
    return { key => $key, value => $value, headers => $headers, shift => $i * 1000 - ($digit == 4 ? 5000 : 0) };
}

sub shapes {
    my @rows = (
        ['k0', 'v0'], [undef, 'no key'], ['k2', undef], ['', 'empty key'], ['k4', ''], [undef, undef],
        ['k6', 'v6', 'a=1'], ['k7', 'v7', 'a=1,b=2,a=3,a=1'], ['k8', 'v8', 'empty=,null=NULL'], ['k9', undef, 'why=deleted'],
        [generate(10, 32), generate(11, 512), 'bin=' . seen(generate(12, 64)) . ',ключ=значение'],
    );
    return map { { key => $_->[0], value => $_->[1], headers => $_->[2] // '' } } @rows;
}

sub records {
    my ($kind, @given) = @_;
    return map { { key => 'key-' . $_ % 50, value => generate($_, 100), headers => '' } } 0 .. $given[0] - 1 if $kind eq 'keyed';
    return map { { value => $_ % 2 ? generate($_, 300) : text($_), headers => '' } } 0 .. $given[0] - 1 if $kind eq 'odd';
    return map { interop($_, $given[1]) } 0 .. $given[0] - 1 if $kind eq 'interop';
    return map { { key => '0', value => "0:$_", headers => '' } } $given[0] .. $given[0] + $given[1] - 1 if $kind eq 'numbered';
    return map { { value => "manual-$_", headers => '' } } $given[0] .. $given[0] + $given[1] - 1 if $kind eq 'timed';
    return shapes() if $kind eq 'shapes';
    die "unknown kind $kind\n";
}

# What kcat wrote: "partition offset key-length value-length timestamp\n", key, value, headers, "<|end|>\n" for each record.
sub parse {
    my ($file) = @_;
    open(my $in, '<:raw', $file) or die "$file: $!\n";
    my $all = do { local $/; <$in> } // '';
    my (@got, $at);
    for ($at = 0; $at < length $all;) {
        my $end = index($all, "\n", $at);
        my ($p, $o, $k, $s, $t) = split / /, substr($all, $at, $end - $at);
        $at = $end + 1;
        my $key = $k < 0 ? undef : substr($all, $at, $k);
        $at += $k if $k > 0;
        my $value = $s < 0 ? undef : substr($all, $at, $s);
        $at += $s if $s > 0;
        $end = index($all, "<|end|>\n", $at);
        die "cannot read kcat's output at $at\n" if $end < 0;
        push @got, { partition => $p, offset => $o, key => $key, value => $value, time => $t, headers => substr($all, $at, $end - $at) };
        $at = $end + 8;
    }
    return @got;
}

sub shown {
    my ($value) = @_;
    return 'null' unless defined $value;
    $value = substr($value, 0, 200) . '...' if length $value > 200;
    $value =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;
    return "\"$value\"";
}

sub same {
    my ($what, $wanted, $got) = @_;
    return if defined $wanted ? defined $got && $wanted eq $got : !defined $got;
    die "$what: expected ${\shown($wanted)}, came ${\shown($got)}\n";
}

sub names { return join ',', sort map { s/=.*//sr } split /,/, $_[0] }

sub check {
    my ($kind, $file, @given) = @_;
    my @wanted = records($kind, @given);
    my %without = map { $_ => 1 } split /,/, ($kind eq 'interop' ? $given[2] // '' : '');
    my @got = parse($file);
    same('number of records', scalar @wanted, scalar @got);
    # With several partitions the records of one key stay in order, and that is all the order there is.
    my (%next, %queue);
    my $first = $kind eq 'numbered' || $kind eq 'timed' ? $given[0] : 0;
    push @{ $queue{ $kind eq 'keyed' ? $_->{key} : '' } }, $_ for @wanted;
    my %partition;
    for my $back (@got) {
        my $next = $next{ $back->{partition} }++;
        same("offset in partition $back->{partition}", $first + $next, $back->{offset});
        my $of = $kind eq 'keyed' ? $back->{key} // '' : '';
        my $sent = shift @{ $queue{$of} } or die "a record that was not sent at offset $back->{offset}\n";
        same("partition of $of", $partition{$of} //= $back->{partition}, $back->{partition}) if $kind eq 'keyed';
        compare("record at $back->{offset}", $sent, $back, $got[0]{time}, \%without);
    }
}

sub compare {
    my ($what, $sent, $back, $base, $without) = @_;
    for my $part ('key', 'value') {
        my ($wanted, $came) = ($sent->{$part}, $back->{$part});
        ($wanted, $came) = ($wanted // '', $came // '') if $without->{'null-vs-empty'};
        same("$what, $part", $wanted, $came);
    }
    my ($wanted, $came) = ($sent->{headers}, $back->{headers});
    if ($without->{'header-order'} || $without->{'repeated-headers'}) {
        my %seen;
        ($wanted, $came) = map { %seen = (); join ',', grep { !$seen{$_}++ } split /,/, names($_) } $wanted, $came;
    } elsif ($without->{'null-headers'}) {
        s/=NULL(,|$)/=$1/g for $wanted, $came;
    }
    same("$what, headers", $wanted, $came);
    same("$what, timestamp", $base + $sent->{shift}, $back->{time}) if defined $sent->{shift} && !$without->{timestamps};
    die "$what: timestamp $back->{time} is not of today\n" if abs(time * 1000 - $back->{time}) > $HEADS;
}

my ($command, @given) = @ARGV;
binmode STDOUT;
if ($command eq 'bytes') { print generate(@given) }
elsif ($command eq 'text') { print text(@given) }
elsif ($command eq 'input') {
    # Without a key there is no key delimiter.
    print map { (defined $_->{key} ? "$_->{key}<|key|>" : '') . ($_->{value} // '') . '<|end|>' } records(@given);
} elsif ($command eq 'check') { check(@given) }
else { die "unknown command $command\n" }
