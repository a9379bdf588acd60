# shellcheck shell=bash
# The Hadoop jars of one version: fetched once with Maven into a folder of their own, and a class-data
# archive made from them that halves what starting a JVM costs.
#
# Layout below $cache/hadoop/VERSION:
#   jars/         every jar of the class path
#   classpath     the same in class path order, colon separated
#   web/          the empty web applications that NameNode and DataNode want to find
#   classes.jsa   class-data archive (optional, `scripts/hadoop prepare`)

readonly MAVEN_DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

# What a NameNode, DataNode, ResourceManager, NodeManager and the Java clients need together.
readonly HADOOP_ARTIFACTS=(
  hadoop-common hadoop-hdfs hadoop-hdfs-client hadoop-mapreduce-client-hs
  hadoop-yarn-api hadoop-yarn-client hadoop-yarn-common hadoop-yarn-server-common
  hadoop-yarn-server-nodemanager hadoop-yarn-server-resourcemanager
  hadoop-yarn-server-timelineservice hadoop-yarn-server-web-proxy
)

# Exported packages that Hadoop reaches into; JDK 17 keeps them closed by default.
jvm_flags() {
  local package
  printf '%s\n' -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    -Djava.net.preferIPv4Stack=true --add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED
  for package in java.lang java.util java.util.concurrent java.io java.net java.nio sun.nio.ch java.math; do
    printf '%s\n' "--add-opens=java.base/$package=ALL-UNNAMED"
  done
}

# fetch_jars VERSION: leaves a complete folder, or nothing. Safe to call from several shells at once.
fetch_jars() {
  local version=$1 folder=$cache/hadoop/$1
  mkdir -p "$cache/hadoop"
  (
    flock 9
    [[ -s $folder/classpath ]] && exit 0
    need mvn "Maven fetches the Hadoop jars: apt-get install maven"
    say "fetching the jars of Hadoop $version with Maven (about 90 MB, once)"
    local work
    work=$(mktemp -d "$cache/hadoop/.$version.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    write_pom "$version" >"$work/pom.xml"
    mvn -B -q -f "$work/pom.xml" -Dmdep.outputFile="$work/order" -DoutputDirectory="$work/jars" \
      "$MAVEN_DEPENDENCY_PLUGIN:copy-dependencies" "$MAVEN_DEPENDENCY_PLUGIN:build-classpath" >"$work/log" 2>&1 ||
      die "Maven could not fetch Hadoop $version:"$'\n'"$(tail -n 20 "$work/log")"
    # build-classpath knows the order, copy-dependencies the place: join the two.
    # Hadoop 3.3.6 brings a second logging back end by way of ZooKeeper, which complains about the first.
    rm -f "$work"/jars/slf4j-log4j12-*.jar
    local jar joined=
    while read -r jar && [[ -n $jar ]]; do
      [[ -f $work/jars/${jar##*/} ]] && joined+="${joined:+:}$folder/jars/${jar##*/}"
    done < <(tr ':' '\n' <"$work/order"; echo)
    local app
    for app in hdfs datanode secondary journal; do
      mkdir -p "$work/web/webapps/$app/WEB-INF"
      echo '<web-app/>' >"$work/web/webapps/$app/WEB-INF/web.xml"
    done
    mkdir -p "$folder"
    rm -rf "${folder:?}/jars" "${folder:?}/web" "${folder:?}/classes.jsa"
    mv "$work/jars" "$work/web" "$folder/"
    echo "$joined" >"$folder/classpath.new" && mv "$folder/classpath.new" "$folder/classpath"
  ) 9>"$cache/hadoop/.$version.lock" || exit
}

write_pom() {
  local version=$1 artifact artifacts=("${HADOOP_ARTIFACTS[@]}")
  # The distributed shell is published as an ordinary jar for this version alone.
  [[ $version == 3.4.2 ]] && artifacts+=(hadoop-yarn-applications-distributedshell)
  cat <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ringspin</groupId><artifactId>hadoop-jars</artifactId><version>1</version>
  <dependencies>
POM
  for artifact in "${artifacts[@]}"; do
    printf '    <dependency><groupId>org.apache.hadoop</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n' \
      "$artifact" "$version"
  done
  printf '  </dependencies>\n</project>\n'
}

# prepare [--version V]: jars, and a class-data archive of the classes that daemons and clients load, learnt
# from a short-lived cluster. JVMs then map these classes instead of parsing and verifying them. Does nothing
# when both are there.
prepare() {
  local chosen=3.4.2
  [[ ${1:-} == --*=* ]] && set -- "${1%%=*}" "${1#*=}"
  case ${1:-} in
    --version) chosen=${2:-} ;;
    '') ;;
    *) misuse "prepare: no option '$1'" ;;
  esac
  check_version "$chosen"
  check_machine
  fetch_jars "$chosen"
  archive=$cache/hadoop/$chosen/classes.jsa
  if archive_fits; then
    say "jars and class-data archive of Hadoop $chosen are there"
    return
  fi
  rm -f "$archive"
  name=prepare-$$ record_classes=1
  up --version "$chosen" --nodes 1 --owner-pid $$ >/dev/null
  class_list=$(mktemp)
  trap 'down; rm -f "$class_list"' EXIT
  (run_java -XX:DumpLoadedClassList="$dir/classes.client" org.apache.hadoop.fs.FsShell -ls / >/dev/null)
  # Numbers mean something within one list only; a class without one is found by its name.
  sed '/^#/d; /source:/d; s/ id: [0-9]*$//' "$dir"/classes.* | sort -u >"$class_list"
  down
  trap 'rm -f "$class_list" "$archive.new"' EXIT
  say "making the class-data archive of Hadoop $chosen"
  "$java_home/bin/java" -Xshare:dump -XX:SharedClassListFile="$class_list" -XX:SharedArchiveFile="$archive.new" \
    -Xlog:disable -Xlog:all=error:stderr -cp "$(<"$cache/hadoop/$chosen/classpath")"
  mv -f "$archive.new" "$archive"
}

# archive_fits: this JVM takes it. Another one, or with other jars, would ignore it.
archive_fits() {
  [[ -f $archive ]] && "$java_home/bin/java" -Xshare:on -XX:SharedArchiveFile="$archive" -Xlog:disable \
    -cp "$(<"$cache/hadoop/$chosen/classpath")" -version >/dev/null 2>&1
}
