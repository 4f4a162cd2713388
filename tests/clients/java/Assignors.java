import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.common.*;

/**
 * Has the assignors of Apache's kafka-clients share out partitions in made-up groups, and prints what they were told and
 * what came of it: sdk/client/vectors/assignors_java.txt. Its options: how many groups, and a seed.
 */
public class Assignors {
  public static void main(String[] words) {
    int groups = Integer.parseInt(words[0]);
    var random = new Random(Long.parseLong(words[1]));
    System.out.println("# Groups and the shares of their members, by the assignors of Apache's kafka-clients 4.4.0.");
    System.out.println("# topic NAME PARTITIONS, member ID INSTANCE GENERATION TOPICS OWNED STICKY-USER-DATA,");
    System.out.println("# then per assignor a share for each member. A dash stands for nothing.");
    for (int i = 0; i < groups; i++) new Assignors(random).run(i);
  }

  private final Random random;
  private final Map<String, Integer> topics = new TreeMap<>();
  private final Map<String, Subscription> members = new LinkedHashMap<>();

  private Assignors(Random random) {
    this.random = random;
    String[] names = {"a", "orders", "t.3", "payments-eu"};
    for (int i = 0; i < 1 + random.nextInt(names.length); i++) topics.put(names[i], 1 + random.nextInt(7));
    boolean sameTopics = random.nextBoolean();
    int count = 1 + random.nextInt(6);
    int generation = 3 + random.nextInt(5);
    List<TopicPartition> all = new ArrayList<>();
    topics.forEach((topic, partitions) -> {
      for (int p = 0; p < partitions; p++) all.add(new TopicPartition(topic, p));
    });
    boolean staticOnes = random.nextInt(4) == 0;
    for (int i = 0; i < count; i++) {
      // Each member reads something, as a client's does.
      String id = (random.nextBoolean() ? "m" : "consumer-") + Integer.toHexString(random.nextInt(1 << 20));
      List<String> reads = topics.keySet().stream()
          .filter(topic -> sameTopics || random.nextInt(3) > 0).collect(Collectors.toList());
      if (random.nextInt(10) == 0) reads.add("gone");
      if (sameTopics || reads.isEmpty()) reads = new ArrayList<>(topics.keySet());
      List<TopicPartition> owned = new ArrayList<>();
      boolean isNew = random.nextInt(3) == 0;
      for (TopicPartition tp : all) {
        boolean mine = Math.floorMod(tp.hashCode() + i, Math.max(1, count - 1)) == 0 && random.nextInt(8) > 0;
        // Now and then two of them claim the same.
        if (!isNew && (mine || random.nextInt(20) == 0)) owned.add(tp);
      }
      int mine = isNew ? -1 : random.nextInt(5) == 0 ? generation - 1 : generation;
      ByteBuffer data = null;
      if (!isNew) {
        var sticky = new StickyAssignor();
        sticky.onAssignment(new Assignment(owned), new ConsumerGroupMetadata("g", mine, id, Optional.empty()));
        data = sticky.subscriptionUserData(Set.copyOf(reads));
      }
      var subscription = new Subscription(reads, data, owned, mine, Optional.empty());
      if (staticOnes && random.nextBoolean()) subscription.setGroupInstanceId(Optional.of("i" + random.nextInt(100) + "-" + i));
      members.put(id, subscription);
    }
  }

  private void run(int number) {
    System.out.println("group " + number);
    topics.forEach((topic, partitions) -> System.out.println("topic " + topic + " " + partitions));
    members.forEach((id, it) -> System.out.println("member " + id + " " + it.groupInstanceId().orElse("-") + " "
        + it.generationId().map(String::valueOf).orElse("-") + " " + dash(String.join(",", it.topics())) + " "
        + list(it.ownedPartitions()) + " " + hex(it.userData())));
    share("range", new RangeAssignor(), members);
    share("roundrobin", new RoundRobinAssignor(), members);
    share("sticky", new StickyAssignor(), members);
    Map<String, Subscription> cooperative = new LinkedHashMap<>();
    members.forEach((id, it) -> {
      var without = new Subscription(it.topics(), null, it.ownedPartitions(), it.generationId().orElse(-1), Optional.empty());
      without.setGroupInstanceId(it.groupInstanceId());
      cooperative.put(id, without);
    });
    share("cooperative-sticky", new CooperativeStickyAssignor(), cooperative);
  }

  private void share(String name, ConsumerPartitionAssignor assignor, Map<String, Subscription> told) {
    var node = new Node(1, "h", 1);
    List<PartitionInfo> infos = new ArrayList<>();
    topics.forEach((topic, partitions) -> {
      for (int p = 0; p < partitions; p++) infos.add(new PartitionInfo(topic, p, node, new Node[] {node}, new Node[] {node}));
    });
    var cluster = new Cluster("c", List.of(node), infos, Set.of(), Set.of());
    // As the coordinator of the client does it: in the order of the members that the broker lists.
    Map<String, Subscription> subscriptions = new HashMap<>();
    told.forEach(subscriptions::put);
    Map<String, Assignment> shares = assignor.assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
    System.out.println("by " + name);
    told.keySet().forEach(id -> System.out.println("share " + id + " " + list(shares.get(id).partitions())));
  }

  private static String list(List<TopicPartition> partitions) {
    return dash(partitions.stream().sorted(Comparator.comparing(TopicPartition::topic).thenComparing(TopicPartition::partition))
        .map(tp -> tp.topic() + "-" + tp.partition()).collect(Collectors.joining(",")));
  }

  private static String hex(ByteBuffer bytes) {
    if (bytes == null) return "-";
    var text = new StringBuilder();
    for (int i = bytes.position(); i < bytes.limit(); i++) text.append(String.format("%02x", bytes.get(i)));
    return text.toString();
  }

  private static String dash(String text) {
    return text.isEmpty() ? "-" : text;
  }
}
